from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer.errors import InputError, StorageError
from pyflux_transfer.insight.metrics import evaluate
from pyflux_transfer.insight.plot import confusion, drawable, history
from pyflux_transfer.training.callbacks import Record

RECORDS = [
    Record(1, 1, 1.5, 1.4, 0.25, 1e-3, 0.1),
    Record(1, 2, 1.0, 1.1, 0.50, 1e-3, 0.1),
    Record(2, 3, 0.5, 0.8, 0.75, 1e-4, 0.1),
]


@pytest.mark.parametrize("name", ["h.png", "h.PNG"])
def test_a_history_is_drawn(name: str, tmp_path: Path) -> None:
    assert history(RECORDS, tmp_path / name) == tmp_path / name
    image = Image.open(tmp_path / name)
    assert image.size == (1200, 480)
    assert len(image.convert("RGB").getcolors(1 << 24)) > 10


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_other_kinds_of_files(kind: str, tmp_path: Path) -> None:
    history(RECORDS[:1], tmp_path / f"h.{kind}")
    assert (tmp_path / f"h.{kind}").stat().st_size > 1000


def test_a_history_without_validation_is_drawn(tmp_path: Path) -> None:
    history([Record(1, 1, 1.5, None, None, 1e-3, 0.1)], tmp_path / "h.png")
    assert (tmp_path / "h.png").is_file()


@pytest.mark.parametrize("name", ["h.doc", "h"])
def test_kinds_that_cannot_be_drawn_are_told_early(name: str) -> None:
    with pytest.raises(InputError, match=r"must end in .*\.png, .*got 'h"):
        drawable(Path(name))


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"Cannot draw into .*No such file"):
        history(RECORDS, tmp_path / "no" / "h.png")


def test_without_matplotlib_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *given)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'pyflux-transfer\[plot\]'"):
        drawable(Path("h.png"))


@pytest.mark.parametrize("count", [2, 21, 100])
def test_a_confusion_matrix_is_drawn_whatever_its_size(count: int) -> None:
    labels = np.arange(count).repeat(2)
    shares = np.eye(count, dtype=np.float32)[np.roll(labels, 1)]
    scores = evaluate(shares, labels, [f"c{i}" for i in range(count)])
    image = Image.open(io.BytesIO(confusion(scores)))
    assert 300 < image.width <= 1300
    assert len(image.convert("RGB").getcolors(1 << 24)) > 10
