"""Tables of any kind, by rows as a reader would give them: no library of frames is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyflux_transfer.data.dataset import class_names, read_sample, scan, split
from pyflux_transfer.data.decode import decode
from pyflux_transfer.data.listing import list_photos, list_source
from pyflux_transfer.data.tabular.listed import listing, missing, photos
from pyflux_transfer.data.tabular.rows import Rows, Table
from pyflux_transfer.errors import DataError, InputError
from tests.photos import photo


class Frame:
    """Stands for a frame of a library."""

    shape, columns = (0, 0), ()


def rows(columns: Sequence[str], *cells: Sequence[Any], folder: Path = Path(), **more: Any) -> Rows:
    numbered = ((f"row {i}", dict(zip(columns, row, strict=True))) for i, row in enumerate(cells))
    return Rows("the frame", columns, numbered, folder, **more)


def labels(*values: Any, **more: Any) -> tuple[str, ...]:
    cells = [(photo("red", i), value) for i, value in enumerate(values)]
    found = listing(rows(("image", "label"), *cells, **more), Table(Frame()))
    names = {entry.name for entry in found.parts["train"]}
    assert set(found.order) <= names | {"unseen"} or not found.order
    return tuple(found.order) or tuple(sorted(names))


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ((2, 10, 1, 2), ("1", "2", "10")),
        ((True, False), ("False", "True")),
        ((np.int64(3), np.int64(-1)), ("-1", "3")),
        ((1.0, 2.0), ("1", "2")),
        (("b", " a "), ("a", "b")),
        (("cafe\u0301", "bar"), ("bar", "caf\u00e9")),
        (("2", 10), ("10", "2")),
    ],
)
def test_labels_are_named_and_numbers_keep_their_order(
    values: tuple[Any, ...], names: tuple[str, ...]
) -> None:
    assert labels(*values) == names


def test_categories_keep_their_order() -> None:
    assert labels("low", "high", order={"label": ["low", "unseen", "high"]}) == (
        "low",
        "unseen",
        "high",
    )


@pytest.mark.parametrize("empty", [None, "", "  ", float("nan"), np.float64("nan")])
def test_empty_labels_and_paths_are_refused_by_their_row(empty: Any) -> None:
    assert missing(empty)
    with pytest.raises(DataError, match="the frame, row 1: path and label must not be empty"):
        labels("a", empty)
    with pytest.raises(DataError, match="the frame, row 0: path and label must not be empty"):
        listing(rows(("path", "label"), (empty, "a")), Table(Frame()))
    with pytest.raises(DataError, match="row 0: path must not be empty"):
        photos(rows(("path",), (empty,)), Table(Frame()))


@pytest.mark.parametrize("value", [0.5, float("inf"), b"a", ("a",)])
def test_what_is_no_class_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="row 0: label must be text, a whole number, true or false"):
        labels(value)


def test_columns_are_found_by_other_names_and_by_those_given(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    cells = ("1.png", "x", "VAL", "anna")
    for columns, named in [
        (("path", "label", "split", "group"), Table(Frame())),
        ((" Path", "LABEL", "Split ", "GROUP"), Table(Frame())),
        (("file_name", "category", "split", "group"), Table(Frame())),
        (("image", "class", "split", "group"), Table(Frame())),
        (("f", "y", "fold", "who"), Table(Frame(), path="f", split="fold", group="who")),
        (("F ", "species", "s", "g"), Table(Frame(), "f", "Species", "s", "g")),
    ]:
        (entry,) = listing(rows(columns, cells, folder=tmp_path), named).parts["valid"]
        assert (entry.path, entry.name, entry.group) == (tmp_path / "1.png", "x", "anna")


@pytest.mark.parametrize(
    ("columns", "named", "message"),
    [
        (
            ("path",),
            {},
            r"lacks the column 'label', it has: path\. Rename .*Table\(data",
        ),
        (("path", "lable"), {}, "Did you mean 'lable'"),
        (("file", "image", "label"), {}, "'file', 'image', each of which may be the path. Say"),
        (("path", "class", "target"), {}, "'class', 'target', each of which may be the label"),
        (("path", "label"), {"label": "lbl"}, "lacks the column 'lbl', which was named as label"),
        (("path", "label", "groups"), {}, "'groups', which is not read. Did you mean 'group'"),
        (("path", "label", "label"), {}, "has the column 'label' twice"),
    ],
)
def test_columns_that_are_missing_or_unclear_are_told(
    columns: tuple[str, ...], named: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        listing(rows(columns), Table(Frame(), **named))


def test_a_column_that_tells_splits_under_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    some = [("1.png", "a", "train"), ("1.png", "b", "test")]
    with pytest.raises(DataError, match="'subset' of the frame tells splits"):
        listing(rows(("path", "label", "subset"), *some, folder=tmp_path), Table(Frame()))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("gone.png", r"names 1 missing file: gone.png .* relative to the current folder"),
        ("s3://bucket/1.png", r"row 0: 's3://bucket/1\.png' is on another machine"),
        (7, "row 0: it is int, not a path, bytes, a Pillow image or an array"),
    ],
)
def test_photos_that_cannot_be_had_are_told(cell: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        listing(rows(("path", "label"), (cell, "a")), Table(Frame()))


def test_files_are_sorted_and_images_in_memory_stay_in_order(tmp_path: Path) -> None:
    for name in "ba":
        (tmp_path / name).write_bytes(b"x")
    cells = [(photo("red"), "x"), ("b", "x"), ({"bytes": b"1", "path": "in/z.png"}, "x"),
             ({"bytes": None, "path": "a"}, "x"), (b"2", "x")]  # fmt: skip
    found = listing(rows(("path", "label"), *cells, folder=tmp_path), Table(Frame()))
    entries = found.parts["train"]
    assert [entry.path.name for entry in entries] == ["a", "b", "row 0", "z.png", "row 4"]
    assert [entry.content is None for entry in entries] == [True, True, False, False, False]
    named = photos(rows(("image",), *[cell[:1] for cell in cells], folder=tmp_path), Table(Frame()))
    assert [name for name, _ in named][0::2] == ["row 0", "in/z.png", "row 4"]


def test_images_in_memory_are_scanned_divided_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyflux_transfer.data import listing as door

    monkeypatch.setitem(door.BY_LIBRARY, Frame.__module__.split(".")[0], read_frame)
    splits = scan(Frame(), max_skipped=0.1)
    assert splits.train.counts == {"blue": 5, "red": 5}
    (gone,) = splits.train.skipped
    assert str(gone).startswith("skipped row 10: it is not an image.")
    assert class_names(Frame()) == ("blue", "red")
    for part in split(splits.train, 0.2):
        for sample in part.samples:
            kept = read_sample(sample, decode)
            number = int(sample.path.name.removeprefix("row "))
            assert (kept == photo(splits.train.classes[sample.label], number)).all()
    assert len(list_photos(Frame())) == 11
    assert list(list_source(Table(Frame(), label="image2")).parts) == ["train"]


def read_frame(_: Any, __: Table) -> Rows:
    cells = [(photo(label, i), label, "x") for i, label in enumerate(["red", "blue"] * 5)]
    return rows(("image", "label", "image2"), *cells, (b"no image", "red", "x"))


def test_what_is_no_source_is_refused() -> None:
    for given in ([1, 2], 7, None, np.zeros((2, 3))):
        with pytest.raises(InputError, match=r"a frame of pandas or polars, .* got"):
            list_source(given)  # type: ignore[arg-type]


def test_a_csv_takes_names_of_columns_too(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    (tmp_path / "t.csv").write_text("File;Species\n1.png;ant\n", "utf-8")
    named = Table(tmp_path / "t.csv", path="File", label="species")
    (entry,) = list_source(named).parts["train"]
    assert (entry.path, entry.name) == (tmp_path / "1.png", "ant")
    with pytest.raises(DataError, match="lacks the column 'path'"):
        list_source(tmp_path / "t.csv")
    assert list_photos(named) == [(str(tmp_path / "1.png"), tmp_path / "1.png")]
