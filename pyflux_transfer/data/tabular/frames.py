"""Rows of frames, of pandas and polars, and of Arrow's tables and Parquet files.

No library is imported but Arrow's, for a Parquet file: who gives a frame has imported its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pyflux_transfer.data.tabular.contents import Fetched
from pyflux_transfer.data.tabular.rows import Rows, Table
from pyflux_transfer.errors import DataError, InputError


def pandas(frame: Any, named: Table) -> Rows:
    """Return the rows of a pandas DataFrame."""
    _check(frame, "DataFrame", "the pandas frame")

    def values(column: str) -> list[Any]:
        cells = frame[column]
        cells = cells.iloc[:, 0] if getattr(cells, "ndim", 1) == 2 else cells  # a name twice
        kept: list[Any] = cells.astype(object).where(cells.notna(), None).tolist()
        return kept

    order = {
        column: frame.dtypes.iloc[i].categories.tolist()
        for i, column in enumerate(frame.columns)
        if frame.dtypes.iloc[i].name == "category"
    }
    return _rows("the pandas frame", list(frame.columns), values, named, order)


def polars(frame: Any, named: Table) -> Rows:
    """Return the rows of a polars DataFrame, or of a LazyFrame, which is collected."""
    if type(frame).__name__ == "LazyFrame":
        frame = frame.collect()
    _check(frame, "DataFrame", "the polars frame")
    order = {
        column: frame[column].dtype.categories.to_list()
        for column in frame.columns
        if type(frame[column].dtype).__name__ == "Enum"
    }
    return _rows("the polars frame", frame.columns, lambda c: frame[c].to_list(), named, order)


def arrow(table: Any, named: Table) -> Rows:
    """Return the rows of an Arrow table."""
    _check(table, "Table", "the Arrow table")
    return _of_arrow(table, "the Arrow table", named)


def parquet(path: Path, named: Table) -> Rows:
    """Return the rows of a Parquet file; images in it are read when they are wanted.

    Raises InputError where pyarrow is missing, DataError for what is no Parquet file.
    """
    try:
        import pyarrow
        import pyarrow.parquet as files
    except ImportError:
        raise InputError(
            "A Parquet file needs pyarrow. Install it: pip install 'pyflux-transfer[parquet]'."
        ) from None
    try:
        table = files.read_table(path, memory_map=True)
    except (pyarrow.ArrowException, OSError) as error:
        said = str(error).strip().splitlines()[0]
        raise DataError(f"'{path}' is no Parquet file that can be read ({said}).") from error
    named = Table(**{**vars(named), "folder": named.folder or path.parent})
    return _of_arrow(table, f"'{path}'", named, "the table")


def _of_arrow(table: Any, name: str, named: Table, base: str = "the current folder") -> Rows:
    names = _class_names(table.schema.metadata)

    def values(column: str) -> Sequence[Any]:
        cells = table[column]
        kind = str(cells.type)
        if kind.startswith("struct") or "binary" in kind:
            look, there = partial(_cell, cells), cells.is_valid().to_pylist()
            return [Fetched(look, i) if valid else None for i, valid in enumerate(there)]
        labels = names.get(column)
        found: list[Any] = cells.to_pylist()
        return [_named(labels, value) for value in found] if labels else found

    return _rows(name, table.column_names, values, named, names, base)


def _cell(cells: Any, row: int) -> Any:
    return cells[row].as_py()


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, Sequence[str]]:
    """Return the names of classes by column, as Hugging Face writes them into its files."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {c: f["names"] for c, f in features.items() if f.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _named(names: Sequence[str], number: Any) -> str | None:
    """Return the name of a class by its number; below 0 it is not labelled."""
    return None if number is None or number < 0 else names[number]


def _rows(
    name: str,
    columns: Sequence[Any],
    values: Callable[[str], Sequence[Any]],
    named: Table,
    order: Mapping[str, Sequence[Any]],
    base: str = "the current folder",
) -> Rows:
    if named.folder is not None and base == "the current folder":
        base = f"'{named.folder}'"

    def cells() -> Iterator[tuple[str, Mapping[str, Any]]]:
        whole = {column: values(column) for column in dict.fromkeys(columns)}
        for i, row in enumerate(zip(*whole.values(), strict=True)):
            yield f"row {i}", dict(zip(whole, row, strict=True))

    return Rows(name, columns, cells(), Path(named.folder or "."), base, order=order)


def _check(data: Any, kind: str, name: str) -> None:
    if type(data).__name__ != kind and not any(c.__name__ == kind for c in type(data).__mro__):
        raise InputError(
            f"{name} is a {type(data).__name__}, which has no columns. Give a {kind} with the "
            "columns path and label."
        )
