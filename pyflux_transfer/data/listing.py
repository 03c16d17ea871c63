"""What a folder or a CSV names: paths and class names by split, before any image is opened."""

from __future__ import annotations

import codecs
import csv
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from pyflux_transfer.data.folders import list_folders
from pyflux_transfer.data.splitnames import SPLITS, TRAIN, split_of
from pyflux_transfer.data.walk import Skipped, cause, irregular, walk
from pyflux_transfer.errors import DataError, counted, nearest, shortened, suggest

_COLUMNS = ("path", "label")
_OPTIONAL = ("split", "group")
_ALIKE = 0.75  # groups, splt, group_id; not "plot", "photographer"
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class Entry:
    """A file, the name of its class and, where a table tells it, of its group."""

    path: Path
    name: str
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """Entries by split, what cannot be read by split, and what a user should know before."""

    parts: dict[str, list[Entry]]
    skipped: dict[str, list[Skipped]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def list_source(source: str | Path) -> Listing:
    """Return the entries of a folder or a CSV by split, "train" first, sorted by path.

    A folder has one folder a class, or `train` beside `val` and `test` with one folder a class in
    each. A CSV has the columns `path` (relative to the CSV), `label` and, as you like, `split` and
    `group`; cells are separated by commas, semicolons or tabs. Raises DataError when nothing is
    there or the layout is another.
    """
    path = Path(source)
    kind = _kind(path)
    if kind == "folder":
        found = list_folders(path)
        parts = {
            split: [Entry(place, name) for place, name in placed]
            for split, placed in found.parts.items()
        }
        return Listing(parts, found.skipped, tuple(found.notes))
    if kind == "file" and path.suffix.lower() in (".csv", ".tsv"):
        return _list_csv(path)
    if kind:
        raise DataError(f"'{path}' is neither a folder nor a .csv table of images.")
    raise DataError(f"'{path}' does not exist. Give a folder with one folder of images a class.")


def files(folder: Path) -> list[Path]:
    """Return what to read in a folder and the folders in it, sorted; what cannot be read, too."""
    found = walk(folder)
    return sorted([*found.files, *(item.path for item in found.skipped)])


def _kind(path: Path) -> str:
    """Return "folder", "file", "other", or nothing where nothing is; say what the system refuses.

    Raises DataError.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        raise DataError(f"'{shortened(path)}' cannot be read: {cause(error)}.") from error
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


# --- tables --------------------------------------------------------------------------------------


def _list_csv(table: Path) -> Listing:
    parts: dict[str, list[Entry]] = {name: [] for name in SPLITS}
    try:
        with table.open(newline="", encoding=_encoding(table)) as stream:
            for where, row in _rows(table, stream):
                # A table without the column, and a row without a word, mean training.
                given = (row.get("split") or "").strip()
                split = split_of(given or TRAIN)
                if split is None:
                    raise DataError(f"{where}: split must be train, valid or test, got '{given}'.")
                path, name = ((row[key] or "").strip() for key in _COLUMNS)
                if not path or not name:
                    raise DataError(f"{where}: path and label must not be empty.")
                place = _place(table.parent, path)
                name = unicodedata.normalize("NFC", name)
                parts[split].append(Entry(place, name, _group(row, where)))
    except (csv.Error, UnicodeError) as error:
        raise DataError(
            f"'{table}' is not a CSV in UTF-8 ({error}). Save it anew as CSV in UTF-8."
        ) from error
    except OSError as error:
        raise DataError(f"'{table}' cannot be read: {cause(error)}.") from error
    entries = [entry for part in parts.values() for entry in part]
    _check_files(table, (entry.path for entry in entries))
    if not entries:
        raise DataError(f"'{table}' names no images to train on. Add lines with path and label.")
    counts = Counter(entry.path for entry in entries)
    repeated = [path for path, count in counts.items() if count > 1]
    notes = [f"'{table}' names {len(repeated)} files more than once, as {p}" for p in repeated[:1]]
    return Listing(
        {
            split: sorted(part, key=lambda entry: entry.path)
            for split, part in parts.items()
            if part
        },
        notes=tuple(notes),
    )


_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _encoding(table: Path) -> str:
    """Return the encoding of a table: UTF-8, or UTF-16 where its mark says so, as of Excel."""
    with table.open("rb") as file:
        return "utf-16" if file.read(2) in _UTF_16 else "utf-8-sig"


def _place(folder: Path, path: str) -> Path:
    """Return the file a row names; Windows writes paths with backslashes."""
    place = folder / path
    if "\\" in path and _trouble(place):
        other = folder / path.replace("\\", "/")
        return place if _trouble(other) else other
    return place


def _rows(table: Path, stream: TextIO) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield where a row stands, for messages, and the row; columns must be there."""
    separator = _separator(stream)
    rows = csv.reader(stream, delimiter=separator)
    columns = [name.strip().casefold() for name in next(rows, [])]
    for column in _COLUMNS:
        if column not in columns:
            raise DataError(
                f"'{table}' lacks the column '{column}', it has: {', '.join(columns) or 'none'}."
                f"{suggest(column, columns)} Its first line must be path,label or "
                "path,label,split,group, of which the last two are as you like."
            )
    for name in (*_COLUMNS, *_OPTIONAL):
        if columns.count(name) > 1:
            raise DataError(f"'{table}' has the column '{name}' twice. Remove one of them.")
    _refuse_misspelt(table, columns)
    said: dict[str, set[str | None]] = {}
    for cells in rows:
        if not any(cells):
            continue
        row = dict(zip(columns, [*cells, *[""] * len(columns)], strict=False))
        yield f"'{table}', line {rows.line_num}", row
        for name in set(columns) - {"split", *_COLUMNS}:
            said.setdefault(name, set()).add(split_of(row[name]))
    for name, splits in said.items():
        if "split" not in columns and None not in splits and len(splits) > 1:
            raise DataError(
                f"The column '{name}' of '{table}' tells splits, but it is not called split. "
                "Rename it, or remove it where it means nothing."
            )


def _refuse_misspelt(table: Path, columns: Iterable[str]) -> None:
    """Refuse a column that may be meant for one that is not there: unread, it would be missed."""
    missing = [name for name in _OPTIONAL if name not in columns]
    for column in columns:
        if column not in _COLUMNS and (meant := nearest(column, missing, _ALIKE)):
            raise DataError(
                f"'{table}' has the column '{column}', which is not read. Did you mean '{meant}'? "
                "Rename it to that or, where it means something else, to a name less alike."
            )


def _separator(stream: TextIO) -> str:
    """Return what separates the cells: what finds the columns in the first line."""
    line = stream.readline()
    stated = re.match(r"sep=(.)\s*$", line)  # Excel's
    if stated:
        return stated[1]
    stream.seek(0)
    for separator in _SEPARATORS:
        cells = next(csv.reader([line], delimiter=separator), [])
        if set(_COLUMNS) <= {cell.strip().casefold() for cell in cells}:
            return separator
    return max(_SEPARATORS, key=line.count)


def _group(row: Mapping[str, str | None], where: str) -> str | None:
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
    troubles = [(path, trouble) for path in paths if (trouble := _trouble(path))]
    if troubles:
        named = ", ".join(f"{shortened(path)} ({trouble})" for path, trouble in troubles[:3])
        raise DataError(
            f"'{table}' names {counted(len(troubles), 'missing file')}: {named}"
            f"{', …' if len(troubles) > 3 else ''}. Paths are relative to the table."
        )


def _trouble(path: Path) -> str:
    """Return why a path names no file to read, nothing where it does."""
    try:
        return irregular(path.stat().st_mode)
    except (OSError, ValueError) as error:
        return cause(error)
