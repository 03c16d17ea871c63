"""What a folder or a CSV names: paths and class names by split, before any image is opened."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pyflux_transfer.errors import DataError, suggest

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
_ORDER = ("train", "valid", "test")
_COLUMNS = ("path", "label")
_LITTER = {"thumbs.db", "desktop.ini"}  # Windows leaves them beside photos


@dataclass(frozen=True)
class Entry:
    """A file, the name of its class and, where a table tells it, of its group."""

    path: Path
    name: str
    group: str | None = None


def list_source(source: str | Path) -> dict[str, list[Entry]]:
    """Return the entries of a folder or a CSV by split, "train" first, sorted by path.

    A folder has one folder a class, or `train` beside `val` and `test` with one folder a class in
    each. A CSV has the columns `path` (relative to the CSV), `label` and, as you like, `split` and
    `group`. Raises DataError when nothing is there or the layout is another.
    """
    path = Path(source)
    if path.is_dir():
        return _list_folder(path)
    if path.is_file() and path.suffix.lower() == ".csv":
        return _list_csv(path)
    if path.exists():
        raise DataError(f"'{path}' is neither a folder nor a .csv table of images.")
    raise DataError(f"'{path}' does not exist. Give a folder with one folder of images a class.")


def _list_folder(folder: Path) -> dict[str, list[Entry]]:
    folders = _folders(folder)
    splits = {SPLITS[name]: place for name, place in folders.items() if name in SPLITS}
    # A class may well be called "train"; then its folder holds images, not folders.
    if "train" not in splits or not _folders(splits["train"]):
        return {"train": _list_classes(folder)}
    if len(splits) < len(folders):
        raise DataError(
            f"'{folder}' holds {', '.join(folders)}: beside train only one val and one test folder "
            "are expected. Move the others away."
        )
    return {name: _list_classes(splits[name]) for name in _ORDER if name in splits}


def _list_classes(folder: Path) -> list[Entry]:
    classes = _folders(folder)
    if not classes:
        raise DataError(
            f"'{folder}' holds no folders. Put the images of each class into a folder of its own."
        )
    entries = [Entry(path, name) for name, place in classes.items() for path in files(place)]
    filled = {entry.name for entry in entries}
    if not filled:
        raise DataError(f"The folders in '{folder}' hold no images.")
    if empty := [name for name in classes if name not in filled]:
        raise DataError(
            f"The class folder '{folder / empty[0]}' is empty. Fill it with images or remove it."
        )
    return entries


def _folders(folder: Path) -> dict[str, Path]:
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }


def files(folder: Path) -> list[Path]:
    """Return the files in a folder and the folders in it, sorted; hidden ones are left out."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if not name.startswith(".") and name.lower() not in _LITTER
        ]
    return sorted(found)


def _list_csv(table: Path) -> dict[str, list[Entry]]:
    splits: dict[str, list[Entry]] = {name: [] for name in _ORDER}
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            for where, row in _rows(table, stream):
                # A table without the column, and a row without a word, mean training.
                split = (row.get("split") or "train").strip().lower()
                if split not in SPLITS:
                    raise DataError(f"{where}: split must be train, valid or test, got '{split}'.")
                path, name = ((row[key] or "").strip() for key in _COLUMNS)
                if not path or not name:
                    raise DataError(f"{where}: path and label must not be empty.")
                splits[SPLITS[split]].append(Entry(table.parent / path, name, _group(row, where)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"'{table}' is not a CSV in UTF-8 ({error}).") from error
    _check_files(table, (entry.path for entries in splits.values() for entry in entries))
    if not splits["train"]:
        raise DataError(f"'{table}' names no images to train on. Add lines with path and label.")
    return {
        name: sorted(entries, key=lambda entry: entry.path)
        for name, entries in splits.items()
        if entries
    }


def _rows(table: Path, stream: TextIO) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Yield where a row stands, for messages, and the row; columns must be there."""
    rows = csv.DictReader(stream)
    columns = rows.fieldnames or ()
    for column in _COLUMNS:
        if column not in columns:
            raise DataError(
                f"'{table}' lacks the column '{column}', it has: {', '.join(columns) or 'none'}."
                f"{suggest(column, list(columns))} Its first line must be path,label or "
                "path,label,split,group, of which the last two are as you like."
            )
    for row in rows:
        yield f"'{table}', line {rows.line_num}", row


def _group(row: dict[str, str | None], where: str) -> str | None:
    """Return what the group column says; a photo left out there would pass for independent."""
    if "group" not in row:
        return None
    if group := (row["group"] or "").strip():
        return group
    raise DataError(
        f"{where}: group must not be empty where the table has the column. Name the photo's group, "
        "or give a photo that belongs to none a name of its own."
    )


def _check_files(table: Path, paths: Iterable[Path]) -> None:
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise DataError(
            f"'{table}' names {len(missing)} missing file(s): {', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}. Paths are relative to the table."
        )
