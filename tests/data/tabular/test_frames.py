"""What can be told of frames without their libraries; the rest is in tests/ecosystem."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pyflux_transfer.data.listing import list_source
from pyflux_transfer.data.tabular import frames
from pyflux_transfer.errors import InputError


def test_without_pyarrow_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"pip install 'pyflux-transfer\[parquet\]'"):
        list_source(tmp_path / "t.parquet")


def test_classes_are_named_as_hugging_face_writes_them() -> None:
    label = {"names": ["ant", "bee"], "_type": "ClassLabel"}
    features = {"label": label, "image": {"_type": "Image"}, "text": {"dtype": "string"}}
    written = json.dumps({"info": {"features": features}}).encode()
    assert frames._class_names({b"huggingface": written}) == {"label": ["ant", "bee"]}
    for other in (None, {}, {b"huggingface": b"no json"}, {b"huggingface": b"[]"}):
        assert frames._class_names(other) == {}
    assert [frames._named(["ant", "bee"], i) for i in (1, 0, -1, None)] == [
        "bee",
        "ant",
        None,
        None,
    ]
