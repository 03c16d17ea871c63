"""Rows of a CSV, whatever separates its cells."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pyflux_transfer.data.tabular.rows import NEEDED, Rows, Table
from pyflux_transfer.data.walk import cause
from pyflux_transfer.errors import DataError

_SEPARATORS = ",;\t|"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def rows(path: Path, named: Table) -> Rows:
    """Return the rows of a CSV in UTF-8, or in UTF-16 with its mark. Raises DataError."""
    try:
        data = path.read_bytes()
        # UTF-16 where its mark says so, as of Excel.
        text = data.decode("utf-16" if data[:2] in _UTF_16 else "utf-8-sig")
    except UnicodeError as error:
        raise _no_csv(path, error) from error
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {cause(error)}.") from error
    stream = io.StringIO(text, newline="")
    wanted = {str(getattr(named, role) or role).strip().casefold() for role in NEEDED}
    reader = csv.reader(stream, delimiter=_separator(stream, wanted))

    def lines() -> Iterator[list[str]]:
        try:
            yield from reader
        except csv.Error as error:
            raise _no_csv(path, error) from error

    found = lines()
    columns = [name.strip().casefold() for name in next(found, [])]
    cells = (
        (f"line {reader.line_num}", dict(zip(columns, [*row, *[""] * len(columns)], strict=False)))
        for row in found
        if any(row)
    )
    return Rows(f"'{path}'", columns, cells, path.parent, "the table", loose=False)


def _no_csv(path: Path, error: Exception) -> DataError:
    return DataError(f"'{path}' is not a CSV in UTF-8 ({error}). Save it anew as CSV in UTF-8.")


def _separator(stream: TextIO, wanted: set[str]) -> str:
    """Return what separates the cells: what finds the columns in the first line."""
    line = stream.readline()
    stated = re.match(r"sep=(.)\s*$", line)  # Excel's
    if stated:
        return stated[1]
    stream.seek(0)
    for separator in _SEPARATORS:
        cells = next(csv.reader([line], delimiter=separator), [])
        if wanted <= {cell.strip().casefold() for cell in cells}:
            return separator
    return max(_SEPARATORS, key=line.count)
