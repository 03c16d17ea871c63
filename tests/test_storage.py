"""Where things are kept between runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyflux_transfer import storage


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYFLUX_CACHE", str(tmp_path))
    assert storage.features_folder() == tmp_path / "features"
    monkeypatch.delenv("PYFLUX_CACHE")
    assert "pyflux-transfer" in str(storage.cache_folder())
