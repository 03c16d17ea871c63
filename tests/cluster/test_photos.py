from __future__ import annotations

from pathlib import Path

import pytest

from pyflux_transfer.cluster.photos import Photo, address, content, photos
from pyflux_transfer.errors import DataError, ImageError, InputError
from tests import photos as pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures.write(tmp_path / "p", {"blue": 2, "red": 1})


def test_a_folder_is_its_photos_and_for_training_its_classes(folder: Path) -> None:
    paths = [str(folder / "blue" / f"00{i}.png") for i in (0, 1)] + [str(folder / "red/000.png")]
    assert photos(str(folder)) == [Photo(path) for path in paths]
    labels = ["blue", "blue", "red"]
    assert photos(str(folder), labelled=True) == [
        Photo(path, label, "train") for path, label in zip(paths, labels, strict=True)
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_needs_only_paths_and_may_tell_more(folder: Path, separator: str) -> None:
    table = folder / "t.csv"
    rows = [("Path", "label", "Split", "group"), ("red/000.png", "rot", "val", "g1"),
            ("s3://b/x.jpg", "", "", "")]  # fmt: skip
    table.write_text("\ufeff" + "".join(separator.join(row) + "\n" for row in rows), "utf-8")
    assert photos(str(table)) == [
        Photo(str(folder / "red/000.png"), "rot", "valid", "g1"),
        Photo("s3://b/x.jpg"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,label\na,b\n", "column 'path'"),
        ("path,label\n,b\n", "without a path"),
        ("path,split\na,b\n", "train, valid or test"),
        ("path\n\udcff\n", "cannot be read"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=says):
        photos(str(tmp_path / "t.csv"))


def test_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        photos(str(tmp_path / "none"))


def test_an_address_keeps_both_its_slashes() -> None:
    assert address(str(Path("s3://bucket/a"))) == "s3://bucket/a"
    assert address(str(Path("file:///a/b"))) == address("file:///a/b") == "file:///a/b"
    assert address("C:/photos") == "C:/photos"
    assert address("a/b:/c") == "a/b:/c"


def test_what_is_behind_an_address_is_listed_and_read(folder: Path) -> None:
    pytest.importorskip("fsspec")
    (folder / "notes.txt").write_text("no photo")
    found = photos(f"file://{folder}")
    assert [photo.path for photo in found] == [
        f"file://{folder}/{name}" for name in ("blue/000.png", "blue/001.png", "red/000.png")
    ]
    assert content(found[0].path, 1000) == (folder / "blue" / "000.png").read_bytes()
    with pytest.raises(ImageError, match="cannot be read"):
        content(f"file://{folder}/none.png", 1000)


def test_a_parquet_table_is_read_as_another(folder: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"path": ["red/000.png"], "label": ["red"], "n": [1]})
    parquet.write_table(table, folder / "t.parquet")
    assert photos(str(folder / "t.parquet")) == [Photo(str(folder / "red/000.png"), "red")]
