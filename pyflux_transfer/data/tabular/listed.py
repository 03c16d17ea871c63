"""From a table's rows to a listing: the same checks whatever the table is."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyflux_transfer.data.entries import Content, Entry, Listing
from pyflux_transfer.data.splitnames import SPLITS, TRAIN, split_of
from pyflux_transfer.data.tabular.contents import Fetched, content
from pyflux_transfer.data.tabular.rows import Rows, Table, Unread, roles
from pyflux_transfer.data.walk import cause, irregular
from pyflux_transfer.errors import DataError, ImageError, counted, shortened
from pyflux_transfer.networks.numbers import plain


def listing(rows: Rows, named: Table) -> Listing:
    """Return a table's entries by split, sorted by path. Raises DataError for what is amiss."""
    found = roles(rows, named)
    unread = Unread(rows, found)
    parts: dict[str, list[Entry]] = {name: [] for name in SPLITS}
    labels = set()
    for row, cells in rows.cells:
        where = f"{rows.name}, {row}"
        split = _split(cells.get(found["split"]) if "split" in found else None, where)
        photo, label = cells.get(found["path"]), plain(cells.get(found["label"]))
        if missing(photo) or missing(label):
            raise DataError(
                f"{where}: path and label must not be empty. Fill them in, or leave the row out."
            )
        place, held = _photo(photo, rows, row)
        group = _group(cells.get(found["group"]), where) if "group" in found else None
        labels.add(label)
        parts[split].append(Entry(place, _label(label, where), group, held))
        unread.row(cells)
    unread.check()
    entries = [entry for part in parts.values() for entry in part]
    _check_files(rows, (entry.path for entry in entries if entry.content is None))
    if not entries:
        raise DataError(f"{rows.name} names no images to train on. Add lines with path and label.")
    order = (rows.order or {}).get(found["label"]) or _order(labels)
    return Listing(
        {split: _sorted(part) for split, part in parts.items() if part},
        notes=(*rows.notes, *_notes(rows, entries)),
        order=tuple(_label(plain(label), rows.name) for label in order),
    )


def photos(rows: Rows, named: Table) -> list[tuple[str, Path | Content]]:
    """Return the images that a table names, in its order, with their names; no label is needed."""
    column = roles(rows, named, needed=("path",))["path"]
    found: list[tuple[str, Path | Content]] = []
    for row, cells in rows.cells:
        where = f"{rows.name}, {row}"
        if missing(cell := cells.get(column)):
            raise DataError(f"{where}: path must not be empty. Fill it in, or leave the row out.")
        place, held = _photo(cell, rows, row)
        found.append((str(place), held or place))
    return found


def missing(value: object) -> bool:
    """Tell whether a cell is empty: None, no number, no time, blanks."""
    if isinstance(value, str):
        return not value.strip()
    # pandas' NA is neither equal nor unequal to itself.
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float) and value != value)
    )


def _sorted(part: Sequence[Entry]) -> list[Entry]:
    """Return files by their paths, and behind them images in memory in the table's order."""
    return sorted(part, key=lambda e: (e.content is not None, e.path if not e.content else Path()))


def _split(cell: object, where: str) -> str:
    # A table without the column, and a row without a word, mean training.
    given = "" if missing(cell) else str(cell).strip()
    split = split_of(given or TRAIN)
    if split is None:
        raise DataError(f"{where}: split must be train, valid or test, got '{given}'.")
    return split


def _photo(cell: object, rows: Rows, row: str) -> tuple[Path, Content | None]:
    """Return the file that a cell names, or a name and the image itself."""
    if isinstance(cell, Fetched):
        return Path(row), cell
    try:
        held = content(cell.strip() if isinstance(cell, str) else cell)
    except ImageError as error:
        raise DataError(f"{rows.name}, {row}: {error}") from error
    if isinstance(held, Path):
        return _place(rows.folder, str(held)), None
    stated = cell.get("path") if isinstance(cell, Mapping) else None
    return Path(stated or row), held


def _label(label: object, where: str) -> str:
    """Return the name of a class: text, a whole number, True or False."""
    if isinstance(label, str):
        return unicodedata.normalize("NFC", label.strip())
    if isinstance(label, (bool, int)):
        return str(label)
    if isinstance(label, float) and label.is_integer():  # a column that once had gaps
        return str(int(label))
    raise DataError(
        f"{where}: label must be text, a whole number, true or false, got {label!r} "
        f"({type(label).__name__}). A number to predict is no class: sort it into some first."
    )


def _order(labels: set[Any]) -> Sequence[Any]:
    """Return numbers as they are counted, nothing for names: these are sorted as text."""
    return [] if any(isinstance(label, str) for label in labels) else sorted(labels)


def _group(cell: object, where: str) -> str:
    """Return what the group column says; a photo left out there would pass for independent."""
    if not missing(cell):
        return str(plain(cell)).strip()
    raise DataError(
        f"{where}: group must not be empty where the table has the column. Name the photo's group, "
        "or give a photo that belongs to none a name of its own."
    )


def _place(folder: Path, path: str) -> Path:
    """Return the file a row names; Windows writes paths with backslashes."""
    place = folder / path
    if "\\" in path and _trouble(place):
        other = folder / path.replace("\\", "/")
        return place if _trouble(other) else other
    return place


def _check_files(rows: Rows, paths: Iterable[Path]) -> None:
    troubles = [(path, trouble) for path in paths if (trouble := _trouble(path))]
    if troubles:
        named = ", ".join(f"{shortened(path)} ({trouble})" for path, trouble in troubles[:3])
        raise DataError(
            f"{rows.name} names {counted(len(troubles), 'missing file')}: {named}"
            f"{', …' if len(troubles) > 3 else ''}. Paths are relative to {rows.base}."
        )


def _trouble(path: Path) -> str:
    """Return why a path names no file to read, nothing where it does."""
    try:
        return irregular(path.stat().st_mode)
    except (OSError, ValueError) as error:
        return cause(error)


def _notes(rows: Rows, entries: Sequence[Entry]) -> Iterator[str]:
    counts = Counter(entry.path for entry in entries if entry.content is None)
    repeated = [path for path, count in counts.items() if count > 1]
    yield from (f"{rows.name} names {len(repeated)} files more than once, as {p}"
                for p in repeated[:1])  # fmt: skip
