from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pyflux_transfer.data.listing import list_source
from pyflux_transfer.errors import DataError


def fill(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def listed(root: Path) -> dict[str, list[tuple[str, str]]]:
    return {
        split: [(entry.path.relative_to(root).as_posix(), entry.name) for entry in entries]
        for split, entries in list_source(root).items()
    }


def test_a_folder_a_class_sorted_with_nested_files(tmp_path: Path) -> None:
    fill(tmp_path, "dog/2.jpg", "dog/1.jpg", "cat/old/3.PNG", "cat/4.jpg", "readme.txt")
    assert listed(tmp_path) == {
        "train": [
            ("cat/4.jpg", "cat"),
            ("cat/old/3.PNG", "cat"),
            ("dog/1.jpg", "dog"),
            ("dog/2.jpg", "dog"),
        ]
    }


def test_hidden_files_and_litter_are_ignored(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "a/.DS_Store", "a/Thumbs.db", "a/.cache/2.jpg", ".git/3.jpg")
    fill(tmp_path, "b/1.jpg", "b/desktop.ini")
    assert listed(tmp_path) == {"train": [("a/1.jpg", "a"), ("b/1.jpg", "b")]}


@pytest.mark.parametrize("valid", ["val", "valid", "validation"])
def test_train_beside_val_and_test_are_splits(tmp_path: Path, valid: str) -> None:
    fill(tmp_path, "train/a/1.jpg", "train/b/2.jpg", f"{valid}/a/3.jpg", "test/b/4.jpg")
    assert listed(tmp_path) == {
        "train": [("train/a/1.jpg", "a"), ("train/b/2.jpg", "b")],
        "valid": [(f"{valid}/a/3.jpg", "a")],
        "test": [("test/b/4.jpg", "b")],
    }


def test_train_alone_is_a_split(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.jpg", "train/b/2.jpg")
    assert list(listed(tmp_path)) == ["train"]
    assert listed(tmp_path)["train"][0] == ("train/a/1.jpg", "a")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, "train/1.jpg", "bus/2.jpg", "test/3.jpg")
    assert [name for _, name in listed(tmp_path)["train"]] == ["bus", "test", "train"]


def test_folders_beside_splits_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "more/c/4.jpg")
    with pytest.raises(DataError, match=r"holds more, train, val: .* Move the others away"):
        list_source(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "holds no folders. Put the images of each class into a folder of its own"),
        (("1.jpg", "2.jpg"), "holds no folders"),
        (("a/.hidden", "b/.hidden"), "hold no images"),
        (("a/1.jpg", "b/.hidden"), r"class folder '.*b' is empty. Fill it with images or remove"),
    ],
)
def test_folders_without_images_are_refused(
    tmp_path: Path, files: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list_source(fill(tmp_path, *files))


def test_what_is_not_there_or_neither_folder_nor_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere' does not exist\. Give a folder"):
        list_source(tmp_path / "nowhere")
    fill(tmp_path, "photo.jpg")
    with pytest.raises(DataError, match=r"neither a folder nor a \.csv table"):
        list_source(tmp_path / "photo.jpg")


# --- tables --------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Write a CSV beside three images."""
    fill(tmp_path, "images/1.jpg", "images/2.jpg", "3.jpg")

    def write(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_a_table_names_paths_beside_itself(table: Callable[..., Path]) -> None:
    path = table("path,label\nimages/2.jpg,dog\nimages/1.jpg, cat \n\n3.jpg,dog\n")
    folder = path.parent
    assert [(e.path, e.name) for e in list_source(path)["train"]] == [
        (folder / "3.jpg", "dog"),
        (folder / "images/1.jpg", "cat"),
        (folder / "images/2.jpg", "dog"),
    ]
    assert list(list_source(str(path))) == ["train"]


def test_a_table_takes_whole_paths_other_columns_and_a_byte_order_mark(
    table: Callable[..., Path], tmp_path: Path
) -> None:
    path = table(f"id,label,path\n7,cat,{tmp_path / '3.jpg'}\n", "utf-8-sig")
    assert list_source(path)["train"][0].path == tmp_path / "3.jpg"


def test_a_table_with_splits(table: Callable[..., Path]) -> None:
    path = table("path,label,split\n3.jpg,a,test\nimages/1.jpg,b,\nimages/2.jpg,b,VAL\n")
    splits = list_source(path)
    assert {split: len(entries) for split, entries in splits.items()} == {
        "train": 1,
        "valid": 1,
        "test": 1,
    }
    assert list(splits) == ["train", "valid", "test"]


def test_a_table_with_groups(table: Callable[..., Path]) -> None:
    path = table("group,path,label,split\nanna,3.jpg,a,\n ben ,images/1.jpg,b,\n")
    assert [entry.group for entry in list_source(path)["train"]] == ["anna", "ben"]
    path = table("path,label\n3.jpg,a\nimages/1.jpg,b\n")
    assert [entry.group for entry in list_source(path)["train"]] == [None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"lacks the column 'path', it has: none\."),
        (
            "path,lable\n3.jpg,a\n",
            "lacks the column 'label', it has: path, lable. Did you mean",
        ),
        ("path;label\n3.jpg;a\n", "lacks the column 'path', it has: path;label.* path,label,split"),
        ("path,label\n", "names no images to train on"),
        ("path,label,split\n3.jpg,a,test\n", "names no images to train on"),
        ("path,label\n3.jpg,a\n4.jpg,b\n5.jpg,b\n", r"names 2 missing file\(s\): .*4.jpg, .*5.jpg"),
        ("path,label,group\n3.jpg,a, \n", "line 2: group must not be empty where .* of its own"),
        ("path,label,group\n3.jpg,a\n", "line 2: group must not be empty"),
        ("path,label\n3.jpg\n", "line 2: path and label must not be empty"),
        ("path,label\n,a\n", "line 2: path and label must not be empty"),
        ("path,label,split\n3.jpg,a,trian\n", "line 2: split must be train, valid or test, got 't"),
    ],
)
def test_tables_that_cannot_be_used_say_why(
    table: Callable[..., Path], text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list_source(table(text))


def test_many_missing_files_are_cut_short(table: Callable[..., Path]) -> None:
    rows = "".join(f"gone{i}.jpg,a\n" for i in range(9))
    with pytest.raises(DataError, match=r"9 missing .*gone2\.jpg, …\. Paths are relative"):
        list_source(table("path,label\n" + rows))


def test_a_table_in_another_encoding_is_refused(table: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="is not a CSV in UTF-8"):
        list_source(table("path,label\n3.jpg,Bär\n", "latin-1"))
