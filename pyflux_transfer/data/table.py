"""Tables of photos, as `list_source` reads them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyflux_transfer.errors import DataError, shortened
from pyflux_transfer.storage import replacing


@dataclass(frozen=True)
class Row:
    """One photo of a table."""

    path: Path
    label: str
    split: str
    group: str | None = None


def write_table(target: str | Path, rows: Iterable[Row]) -> Path:
    """Write `path,label,split`, and `group` where a row has one; paths are relative to the table.

    Where one row has a group, a row without gets one of its own, as the reader wants it. Raises
    DataError for a name that no table in UTF-8 can hold, StorageError where nothing can be written.
    """
    target, rows = Path(target), list(rows)
    grouped = any(row.group is not None for row in rows)
    columns = ["path", "label", "split", *(["group"] if grouped else [])]
    lines = []
    for row in rows:
        path = relative(row.path, target.parent)
        _check(path)
        cells = [path, row.label, row.split]
        lines.append([*cells, row.group or path] if grouped else cells)
    with replacing(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *lines])
    return target


def relative(path: Path, folder: Path) -> str:
    """Return a path as seen from a folder, with forward slashes; whole where no way leads there."""
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:  # on another drive
        return path.absolute().as_posix()


def _check(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"The name '{shortened(path)}' is no UTF-8, so no table can hold it. Rename the file."
        ) from None
    if path != path.strip():
        raise DataError(
            f"The name '{shortened(path)}' begins or ends with a space, which tables lose. Rename "
            "the file."
        )
