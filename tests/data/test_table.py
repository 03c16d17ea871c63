from __future__ import annotations

from pathlib import Path

import pytest

from pyflux_transfer.data.listing import list_source
from pyflux_transfer.data.table import Row, relative, write_table
from pyflux_transfer.errors import DataError
from tests import photos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "photos", {"blue": 2, "red": 1})


def test_what_is_written_is_read_again(folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.rglob("*.png"))
    rows = [
        Row(files[0], "blau, hell", "train", "one"),
        Row(files[1], '"b"', "valid"),
        Row(files[2], "red", "train", "one"),
    ]
    table = write_table(tmp_path / "tables" / "all.csv", rows)
    found = list_source(table).parts
    assert [(e.path.resolve(), e.name, e.group) for e in found["train"]] == [
        (files[0], "blau, hell", "one"), (files[2], "red", "one"),
    ]  # fmt: skip
    (alone,) = found["valid"]
    assert (alone.name, alone.group) == ('"b"', "../photos/blue/001.png")


def test_without_groups_there_is_no_column_for_them(folder: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "all.csv", [Row(folder / "red" / "000.png", "red", "test")])
    assert table.read_text().splitlines() == ["path,label,split", "photos/red/000.png,red,test"]


@pytest.mark.parametrize("name", [b"\xff.png", b"blank .png "])
def test_names_that_no_table_can_hold_are_refused(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / name.decode(errors="surrogateescape")
    with pytest.raises(DataError, match="Rename the file"):
        write_table(tmp_path / "all.csv", [Row(path, "red", "train")])
    assert not (tmp_path / "all.csv").exists()


def test_paths_are_seen_from_a_folder() -> None:
    assert relative(Path("/a/b/c.png"), Path("/a/d")) == "../b/c.png"
