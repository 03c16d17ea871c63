"""A folder of photos with hostile names, and findings about them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pyflux_transfer.insight.findings import Finding, Findings, Photo
from tests import photos

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = photos.write(tmp_path / "photos", {"blue": 3, "red": 3})
    name = "blue/<script>alert(1)<￿script>, \"'.png".replace("￿", "\u2215")
    shutil.copy(place / "blue" / "000.png", place / name)
    return place


@pytest.fixture
def found(folder: Path) -> Findings:
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    some = tuple(
        Photo(path, "train", HOSTILE if "script" in path else path.split("/")[0], 16, 16)
        for path in files
    )
    script = next(i for i, path in enumerate(files) if "script" in path)
    told = (
        Finding("unreadable", len(some), 1.0, "it is <b>damaged</b>"),
        Finding("label", script, 4.0, "red 97 %", "red", 0.97),
        Finding("label", 0, 2.0, "red 60 %", "red", 0.6),
        Finding("copy", 0, 0.9, f"the same picture as {files[1]}", set=0),
        Finding("copy", 1, 0.9, f"the same picture as {files[0]}", set=0),
    )
    broken = Photo("red/broken.jpg", "train", "")
    names = ("blue", "red", HOSTILE)
    return Findings(names, (*some, broken), told, (*files, broken.path), (0.9, 0.02), ("a <note>",))
