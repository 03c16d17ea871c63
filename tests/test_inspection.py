from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pyflux_transfer as pft
from pyflux_transfer.errors import DataError
from pyflux_transfer.insight.findings import Findings
from pyflux_transfer.training.features import Cache
from tests import photos
from tests.engines import fake
from tests.training.helpers import Notes

pytestmark = pytest.mark.usefixtures("fake_engine")

COUNTS = {"blue": 14, "green": 13, "red": 12}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "photos", COUNTS, side=24)


def check(data: Path | pft.Splits, **options: object) -> Findings:
    return pft.check(data, "tiny", engine="fake", **options)  # type: ignore[arg-type]


def named(findings: Findings, kind: str) -> list[str]:
    return [findings.photos[found.photo].path for found in findings.of(kind)]


def test_a_wrong_label_is_found_with_the_right_one(folder: Path) -> None:
    shutil.move(folder / "red" / "003.png", folder / "blue" / "moved.png")
    found = check(folder)
    assert named(found, "label")[0] == "blue/moved.png"
    assert found.of("label")[0].suggested == "red"
    assert found.accuracy
    assert found.accuracy[0] > 0.8
    assert any(line.startswith("Probable label errors: ") for line in found.verdict())
    assert check(folder) == found


def test_a_copy_with_the_same_wrong_label_does_not_hide_it(folder: Path) -> None:
    """Copies stand in one fold: else the head would have learnt the label from the other."""
    source = folder / "red" / "003.png"
    image = Image.open(source)
    image.resize((40, 40)).save(folder / "blue" / "larger.png")
    shutil.move(source, folder / "blue" / "moved.png")
    found = check(folder)
    assert set(named(found, "label")[:2]) == {"blue/larger.png", "blue/moved.png"}
    places = [photo.path for photo in found.photos]
    groups = [found.groups[places.index(f"blue/{name}.png")] for name in ("larger", "moved")]
    assert groups == ["blue/larger.png"] * 2


def test_copies_are_told_by_what_they_spoil(tmp_path: Path) -> None:
    for part, seed in (("train", 0), ("val", 50)):
        photos.write(tmp_path / "photos" / part, {"blue": 8, "red": 8}, seed, side=24)
    train, val = tmp_path / "photos" / "train", tmp_path / "photos" / "val"
    shutil.copy(train / "blue" / "000.png", train / "blue" / "again.png")
    shutil.copy(train / "red" / "001.png", train / "blue" / "also red.png")
    shutil.copy(train / "blue" / "002.png", val / "blue" / "seen.png")
    found = check(tmp_path / "photos")
    assert set(named(found, "copy")) == {"train/blue/000.png", "train/blue/again.png"}
    assert set(named(found, "conflict")) == {"train/blue/also red.png", "train/red/001.png"}
    assert set(named(found, "leak")) == {"train/blue/002.png", "val/blue/seen.png"}
    assert found.of("leak")[0].why.startswith("equal to ")
    assert found.counts()["blue"] == {"train": 10, "valid": 9}
    kinds = [finding.kind for finding in found.found]
    assert kinds.index("leak") < kinds.index("conflict") < kinds.index("copy")


def test_unreadable_and_blank_photos_are_told(folder: Path) -> None:
    (folder / "red" / "broken.jpg").write_bytes(b"no image")
    Image.new("RGB", (24, 24), "white").save(folder / "red" / "white.png")
    found = check(folder)
    assert named(found, "unreadable") == ["red/broken.jpg"]
    assert "not an image" in found.of("unreadable")[0].why
    assert named(found, "blank") == ["red/white.png"]
    assert found.counts()["red"] == {"train": 13}
    assert found.verdict()[0].startswith("Unreadable files: 1 of ")
    assert len(found.groups) == len(found.photos)


def test_each_photo_is_decoded_once_and_passes_the_trunk_once(folder: Path, tmp_path: Path) -> None:
    first, again = Notes(), Notes()
    kept = Cache(tmp_path / "kept")
    found = check(folder, watcher=first, cache=kept)
    assert first.bars == {"scanning": [39], "features": [39], "comparing": [39]}
    assert check(folder, watcher=again, cache=kept) == found
    assert set(again.bars) == {"scanning", "looking", "comparing"}


def test_a_table_and_a_scan_are_checked_too_and_groups_are_kept(folder: Path) -> None:
    files = sorted(folder.rglob("*.png"))
    lines = [f"{file.relative_to(folder).as_posix()},{file.parent.name},g{i // 4}"
             for i, file in enumerate(files)]  # fmt: skip
    table = folder / "all.csv"
    table.write_text("\n".join(["path,label,group", *lines]), "utf-8")
    found = check(table)
    assert found.photos[0].path == "blue/000.png"
    assert set(found.groups) == {f"g{i}" for i in range(10)}
    scanned = check(pft.scan(table))
    assert scanned.photos[0].path == files[0].as_posix()
    assert [f.kind for f in scanned.found] == [f.kind for f in found.found]


def test_where_nothing_can_be_held_out_labels_are_not_judged(tmp_path: Path) -> None:
    found = check(photos.write(tmp_path / "few", {"blue": 1, "red": 1}))
    assert found.accuracy is None
    assert not found.of("label")
    assert any(line.startswith("Few photos: ") for line in found.verdict())


def test_feature_maps_are_pooled(folder: Path) -> None:
    model = pft.load("tiny", engine="fake").with_head(list(COUNTS))
    rows, _, _ = model.features(folder, cut="stage2")
    assert rows.ndim == 4
    from pyflux_transfer.inspection import _pooled
    from pyflux_transfer.training.features import Features

    found = _pooled(Features(rows.shape[1:], len(rows), lambda i: rows[np.asarray(i)]))
    np.testing.assert_allclose(found, rows.mean(axis=(2, 3)), rtol=1e-6)


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        check(tmp_path / "empty")
    assert fake.TINY.name == "tiny"


def test_an_accuracy_that_training_need_not_tell_is_explained(folder: Path) -> None:
    """Near-copies stand in one fold here, which training does with groups alone."""

    def said() -> list[str]:
        notes = Notes()
        check(folder, watcher=notes)
        return [line for line in notes.lines if line.startswith("this accuracy holds ")]

    before = said()
    shutil.copy(folder / "red" / "003.png", folder / "red" / "again.png")
    (line,) = said()
    assert line != "".join(before)
    assert "may tell a higher one" in line
    assert "--write-groups" in line
