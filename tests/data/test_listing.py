from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        for split, entries in list_source(root).parts.items()
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


def test_litter_and_sidecars_are_counted_in_one_line(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "a/1.jpg.json", "a/@eaDir/1.jpg", "a/clip.mp4", "b/1.jpg", "b/1.XMP")
    fill(tmp_path, "__MACOSX/a/._1.jpg", "b/.hidden", "b/ehthumbs.db", "b/Icon\r", "readme.md")
    assert listed(tmp_path) == {"train": [("a/1.jpg", "a"), ("b/1.jpg", "b")]}
    (note,) = list_source(tmp_path).notes
    assert note.startswith("passed over, as they are no photos: 1 ")
    for name in (".json", "@eaDir", ".mp4", ".xmp", "ehthumbs.db", "Icon", "__MACOSX"):
        assert f"1 {name}" in note


def test_files_beside_the_classes_are_told(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "b/1.jpg", "b.jpg", "c.jpg", "notes.txt")
    (note,) = list_source(tmp_path).notes
    assert "2 files beside the class folders in" in note
    assert note.endswith("the first is b.jpg")


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [("Train", "Val", "Test"), ("TRAINING", "validation", "Testing"), ("trains", "vals", "tests")],
)
def test_splits_are_told_whatever_the_case(
    tmp_path: Path, train: str, valid: str, test: str
) -> None:
    for split in (train, valid, test):
        fill(tmp_path, f"{split}/a/1.jpg", f"{split}/b/1.jpg")
    assert {split: entries[0][0] for split, entries in listed(tmp_path).items()} == {
        "train": f"{train}/a/1.jpg",
        "valid": f"{valid}/a/1.jpg",
        "test": f"{test}/a/1.jpg",
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("train_images/a/1.jpg", "test_images/a/1.jpg"), "test_images' looks like a split"),
        (("train/a/1.jpg", "Train/a/1.jpg"), "both mean train. Move one of them away"),
        (("val/a/1.jpg", "validation/a/1.jpg"), "both mean valid"),
        (("train/1.jpg", "test/1.jpg"), "holds only test, train, which are called as splits"),
        (("Train set/1.jpg", "test-data/1.jpg"), "which are called as splits and hold no folders"),
        (("seg_train/a/1.jpg", "seg_test/a/1.jpg"), "seg_test' looks like a split"),
        (("2017 val/1.jpg", "2017 train/1.jpg"), "which are called as splits"),
        (("top/train/a/1.jpg", "top/test/a/1.jpg"), r"one folder only.*Did you mean '.*top'\?"),
        (("a/train/1.jpg", "a/val/1.jpg", "b/train/1.jpg"), "Splits come first: put it as train/a"),
        (("a/test/1.jpg", "b/test/1.jpg"), "Splits come first"),
        (("a/1.jpg", "labels/1.txt"), r"labels' is empty; it holds \.txt only"),
    ],
)
def test_layouts_that_may_mean_splits_are_refused(
    tmp_path: Path, files: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list_source(fill(tmp_path, *files))


def test_classes_that_all_hold_the_same_folders_are_noted(tmp_path: Path) -> None:
    fill(tmp_path, "fold1/a/1.jpg", "fold1/b/1.jpg", "fold2/a/1.jpg", "fold2/b/1.jpg")
    (note,) = list_source(tmp_path).notes
    assert "holds the same folders (a, b); if those are the classes, put them first" in note


def test_names_that_hold_a_split_word_may_be_classes(tmp_path: Path) -> None:
    fill(tmp_path, "test/1.jpg", "train station/1.jpg", "constrain/deep/1.jpg", "latest/1.jpg")
    assert len(listed(tmp_path)["train"]) == 4


def test_a_name_is_one_class_however_the_disk_spells_it(tmp_path: Path) -> None:
    fill(tmp_path, "caf\u00e9/1.jpg", "cafe\u0301/2.jpg", "bar/1.jpg")
    assert {name for _, name in listed(tmp_path)["train"]} == {"bar", "caf\u00e9"}


def test_a_class_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "bar/1.jpg", os.fsdecode(b"caf\xe9") + "/1.jpg")
    with pytest.raises(DataError, match=r"b'caf\\xe9' in .* is no UTF-8\. Rename it"):
        list_source(tmp_path)


def test_linked_folders_are_read_once_and_links_back_are_not_followed(tmp_path: Path) -> None:
    fill(tmp_path, "photos/a/1.jpg", "photos/b/1.jpg", "elsewhere/more/2.jpg")
    root = tmp_path / "photos"
    (root / "a" / "extra").symlink_to("../../elsewhere")
    (root / "a" / "twice").symlink_to("../../elsewhere/more")
    (root / "a" / "back").symlink_to("..")
    (tmp_path / "elsewhere" / "loop").symlink_to(".")
    (root / "c").symlink_to("../elsewhere")
    assert [path for path, _ in listed(root)["train"]] == [
        "a/1.jpg", "a/twice/2.jpg", "b/1.jpg", "c/more/2.jpg",
    ]  # fmt: skip
    (note,) = list_source(root).notes
    assert "links to folders that are read already" in note


def test_what_is_no_file_is_named_and_not_opened(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "b/1.jpg")
    os.mkfifo(tmp_path / "a" / "queue.jpg")
    (tmp_path / "b" / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "b" / "self").symlink_to("self")
    found = list_source(tmp_path)
    assert len(found.parts["train"]) == 2
    assert {item.path.name: item.reason for item in found.skipped["train"]} == {
        "queue.jpg": "it is a named pipe, not a file",
        "gone.jpg": "No such file or directory",
        "self": "Too many levels of symbolic links",
    }


def refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the system refuse to list folders of a name; a superuser may list any."""
    scandir = os.scandir

    def listing(path: Any) -> Any:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listing)


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a/1.jpg", "a/deep/private/2.jpg", "b/1.jpg")
    refused(monkeypatch, "private")
    (item,) = list_source(tmp_path).skipped["train"]
    assert item.path == tmp_path / "a/deep/private"
    assert item.reason == "Permission denied"


@pytest.mark.parametrize("name", ["b", "photos"])
def test_a_class_or_a_source_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill(tmp_path, "photos/a/1.jpg", "photos/b/1.jpg")
    refused(monkeypatch, name)
    with pytest.raises(DataError, match=rf"{name}' cannot be read: Permission denied\."):
        list_source(tmp_path / "photos")


def test_a_name_the_system_cannot_hold_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"…x+' cannot be read: File name too long\."):
        list_source(tmp_path / ("x" * 300))


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
    assert [(e.path, e.name) for e in list_source(path).parts["train"]] == [
        (folder / "3.jpg", "dog"),
        (folder / "images/1.jpg", "cat"),
        (folder / "images/2.jpg", "dog"),
    ]
    assert list(list_source(str(path)).parts) == ["train"]


def test_a_table_takes_whole_paths_other_columns_and_a_byte_order_mark(
    table: Callable[..., Path], tmp_path: Path
) -> None:
    path = table(f"id,label,path\n7,cat,{tmp_path / '3.jpg'}\n", "utf-8-sig")
    assert list_source(path).parts["train"][0].path == tmp_path / "3.jpg"


def test_a_table_with_splits(table: Callable[..., Path]) -> None:
    path = table("path,label,split\n3.jpg,a,test\nimages/1.jpg,b,\nimages/2.jpg,b,VAL\n")
    splits = list_source(path).parts
    assert {split: len(entries) for split, entries in splits.items()} == {
        "train": 1,
        "valid": 1,
        "test": 1,
    }
    assert list(splits) == ["train", "valid", "test"]


def test_a_table_with_groups(table: Callable[..., Path]) -> None:
    path = table("group,path,label,split\nanna,3.jpg,a,\n ben ,images/1.jpg,b,\n")
    assert [entry.group for entry in list_source(path).parts["train"]] == ["anna", "ben"]
    path = table("path,label\n3.jpg,a\nimages/1.jpg,b\n")
    assert [entry.group for entry in list_source(path).parts["train"]] == [None, None]


def test_a_column_may_be_like_one_that_is_there_or_like_none(table: Callable[..., Path]) -> None:
    path = table("path,label,group,subgroup,plot,photographer\n3.jpg,a,x,y,z,w\n")
    assert [entry.group for entry in list_source(path).parts["train"]] == ["x"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "header", ["path,label,split", " Path, LABEL ,\tSplit", "sep=|path,label,split"]
)
def test_tables_come_with_other_separators_and_spellings(
    table: Callable[..., Path], separator: str, header: str
) -> None:
    excel = "sep=" in header
    first = header.replace("sep=|", f"sep={separator}\r\n")
    text = f"{first}\r\n3.jpg, a ,Train\r\nimages\\1.jpg,b, VAL \r\n".replace(",", separator)
    if separator == "\t" and not excel:
        text = text.replace("\t\tSplit", "\tSplit")
    splits = list_source(table(text, "utf-8-sig")).parts
    assert [(entry.path.name, entry.name) for entry in splits["train"]] == [("3.jpg", "a")]
    assert [(entry.path.name, entry.name) for entry in splits["valid"]] == [("1.jpg", "b")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_come_in_unicode_of_any_kind(table: Callable[..., Path], encoding: str) -> None:
    (entry,) = list_source(table("path\tlabel\n3.jpg\tB\u00e4r\n", encoding)).parts["train"]
    assert entry.name == "B\u00e4r"


def test_a_table_of_one_split_is_listed(table: Callable[..., Path]) -> None:
    assert list(list_source(table("path,label,split\n3.jpg,a,test\n")).parts) == ["test"]


def test_files_named_twice_are_told(table: Callable[..., Path]) -> None:
    (note,) = list_source(table("path,label\n3.jpg,a\n3.jpg,b\nimages/1.jpg,a\n")).notes
    assert "names 1 files more than once" in note
    assert note.endswith("3.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"lacks the column 'path', it has: none\."),
        (
            "path,lable\n3.jpg,a\n",
            "lacks the column 'label', it has: path, lable. Did you mean",
        ),
        (
            "path;lable\n3.jpg;a\n",
            "lacks the column 'label', it has: path, lable.* path,label,split",
        ),
        ("path,label\n", "names no images to train on"),
        ("path,label\n3.jpg,a\n4.jpg,b\n5.jpg,b\n", r"names 2 missing files: .*4.jpg .*5.jpg"),
        ("path,label\nimages,a\n", r"images \(it is a folder, not a file\)"),
        (f"path,label\n{'A' * 5000}.jpg,a\n", r"…A+\.jpg \(File name too long\)"),
        ("path,label\n\x00.jpg,a\n", r"missing file|not a CSV"),
        ("path,label,split, Split\n3.jpg,a,train,test\n", "has the column 'split' twice"),
        ("path,label,subset\n3.jpg,a,train\n3.jpg,b,test\n", "'subset' of .* tells splits.*Rename"),
        ("path,label,groups\n3.jpg,a,x\n", "'groups', which is not read. Did you mean 'group'"),
        (
            "path,label,group,Splits\n3.jpg,a,x,?\n",
            "'splits', which is not .* Did you mean 'split'",
        ),
        ("path;label;group_id\n3.jpg;a;x\n", "'group_id', which is not .* a name less alike"),
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
    with pytest.raises(DataError, match=r"9 missing .*gone2\.jpg .*, …\. Paths are relative"):
        list_source(table("path,label\n" + rows))


def test_a_table_in_another_encoding_is_refused(table: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="is not a CSV in UTF-8"):
        list_source(table("path,label\n3.jpg,Bär\n", "latin-1"))
