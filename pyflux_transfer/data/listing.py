"""What a folder or a CSV names: paths and class names by split, before any image is opened."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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
_LITTER = {"thumbs.db", "desktop.ini"}  # Windows leaves them beside photos


@dataclass(frozen=True)
class Entry:
    """A file and the name of its class."""

    path: Path
    name: str


def list_source(source: str | Path) -> dict[str, list[Entry]]:
    """Return the entries of a folder or a CSV by split, "train" first, sorted by path.

    A folder has one folder a class, or `train` beside `val` and `test` with one folder a class in
    each. A CSV has the columns `path` (relative to the CSV), `label` and, as you like, `split`.
    Raises DataError when nothing is there or the layout is another.
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
    classes = _folders(folder)
    splits = {SPLITS[name]: classes[name] for name in classes if name in SPLITS}
    if len(splits) == len(classes) > 1 and "train" in splits:
        return {name: _list_classes(splits[name]) for name in ("train", "valid", "test")
                if name in splits}  # fmt: skip
    return {"train": _list_classes(folder)}


def _list_classes(folder: Path) -> list[Entry]:
    classes = _folders(folder)
    if not classes:
        raise DataError(
            f"'{folder}' holds no folders. Put the images of each class into a folder of its own."
        )
    entries = [Entry(path, name) for name, place in classes.items() for path in _files(place)]
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


def _files(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if not name.startswith(".") and name.lower() not in _LITTER
        ]
    return sorted(found)


def _list_csv(table: Path) -> dict[str, list[Entry]]:
    splits: dict[str, list[Entry]] = {"train": [], "valid": [], "test": []}
    with table.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        columns = rows.fieldnames or ()
        for column in ("path", "label"):
            if column not in columns:
                raise DataError(
                    f"'{table}' lacks the column '{column}', it has: {', '.join(columns) or 'none'}"
                    f".{suggest(column, list(columns))} Its first line must be path,label or "
                    "path,label,split."
                )
        for row in rows:
            where = f"'{table}', line {rows.line_num}"
            name, path = (row["label"] or "").strip(), (row["path"] or "").strip()
            if not name or not path:
                raise DataError(f"{where}: path and label must not be empty.")
            # A table without the column, and a row without a word, mean training.
            split = (row.get("split") or "train").strip().lower()
            if split not in SPLITS:
                raise DataError(f"{where}: split must be train, valid or test, got '{split}'.")
            splits[SPLITS[split]].append(Entry(table.parent / path, name))
    _check_files(table, (entry.path for entries in splits.values() for entry in entries))
    if not splits["train"]:
        raise DataError(f"'{table}' names no images to train on. Add lines with path and label.")
    return {
        name: sorted(entries, key=lambda entry: entry.path)
        for name, entries in splits.items()
        if entries
    }


def _check_files(table: Path, paths: Iterable[Path]) -> None:
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise DataError(
            f"'{table}' names {len(missing)} missing file(s): {', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}. Paths are relative to the table."
        )
