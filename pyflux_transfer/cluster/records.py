"""What a job says of each photo, and the forms in which that is written."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pyflux_transfer.cluster.optional import needed
from pyflux_transfer.errors import StorageError
from pyflux_transfer.networks.tensors import Array

# The columns of every record; `values` is called as the job's values are, and comes last.
COLUMNS = ("path", "digest", "label", "reason", "note")


@dataclass(frozen=True)
class Record:
    """One photo's outcome: `values` (…) float32, or the `reason` why there are none.

    `digest` is the sha256 of its bytes, "" where they cannot be had. `more` are further columns,
    plain numbers and text.
    """

    path: str
    digest: str
    label: str | None = None
    values: Array | None = None
    reason: str | None = None
    note: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """A file format of records: text, or Parquet."""

    encode: Callable[[Sequence[Record], Mapping[str, Any]], bytes]
    decode: Callable[[bytes], list[Record]]


def _rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for record in records for name in record.more))
    return [
        {
            **{name: getattr(record, name) for name in COLUMNS},
            **{name: record.more.get(name) for name in names},
        }
        for record in records
    ]


# --- Parquet --------------------------------------------------------------------------------------


def _to_parquet(records: Sequence[Record], meta: Mapping[str, Any]) -> bytes:
    arrow, parquet = needed("pyarrow", "Parquet"), needed("pyarrow.parquet", "Parquet")
    rows = _rows(records)
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else COLUMNS)}
    # A column of nothing has a type, too: readers take the parts of a folder for one table.
    empty = arrow.float64() if meta["values"] == "probabilities" else arrow.string()
    arrays = {
        name: arrow.array(
            values,
            arrow.string() if name in COLUMNS else empty if set(values) == {None} else None,
        )
        for name, values in columns.items()
    }
    arrays[meta["values"]] = _lists(arrow, [record.values for record in records])
    told = {b"pyflux_transfer": json.dumps(meta).encode()}
    stream = io.BytesIO()
    parquet.write_table(arrow.table(arrays).replace_schema_metadata(told), stream)
    return stream.getvalue()


def _lists(arrow: Any, values: Sequence[Array | None]) -> Any:
    """Return a column of lists of float32, without a Python number for each."""
    there = [value.ravel() for value in values if value is not None]
    flat = np.concatenate(there) if there else np.empty(0, np.float32)
    lengths = np.array([0 if value is None else value.size for value in values], np.int32)
    ends = np.append(np.int32(0), np.cumsum(lengths, dtype=np.int32))
    absent = np.array([value is None for value in values], bool)
    return arrow.ListArray.from_arrays(
        arrow.array(ends), arrow.array(flat), mask=arrow.array(absent)
    )


def _from_parquet(data: bytes) -> list[Record]:
    table = needed("pyarrow.parquet", "Parquet").read_table(io.BytesIO(data))
    meta = json.loads(table.schema.metadata[b"pyflux_transfer"])
    values = table.column(meta["values"]).combine_chunks()
    flat = values.values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    ends, valid = values.offsets.to_numpy(), values.is_valid().to_numpy(zero_copy_only=False)
    rows = table.drop_columns([meta["values"]]).to_pylist()
    shape = tuple(meta["shape"])
    return [
        _record(row, flat[ends[i] : ends[i + 1]].reshape(shape) if valid[i] else None)
        for i, row in enumerate(rows)
    ]


def _record(row: Mapping[str, Any], values: Array | None) -> Record:
    more = {name: value for name, value in row.items() if name not in COLUMNS}
    return Record(**{name: row[name] for name in COLUMNS}, values=values, more=more)


# --- text -----------------------------------------------------------------------------------------


def _to_jsonl(records: Sequence[Record], meta: Mapping[str, Any]) -> bytes:
    lines = []
    for row, record in zip(_rows(records), records, strict=True):
        values = None if record.values is None else _plain(record.values)
        lines.append(json.dumps({**row, meta["values"]: values}, ensure_ascii=True))
    return "".join(f"{line}\n" for line in (json.dumps({"pyflux_transfer": dict(meta)}), *lines)
                   ).encode()  # fmt: skip


def _from_jsonl(data: bytes) -> list[Record]:
    first, *lines = data.decode().splitlines()
    meta = json.loads(first)["pyflux_transfer"]
    found = []
    for line in lines:
        row = json.loads(line)
        values = row.pop(meta["values"])
        array = None if values is None else np.array(values, np.float32).reshape(meta["shape"])
        found.append(_record(row, array))
    return found


def _to_csv(records: Sequence[Record], meta: Mapping[str, Any]) -> bytes:
    stream = io.StringIO()
    rows = _rows(records)
    names = list(rows[0]) if rows else list(COLUMNS)
    numbers = [f"{meta['values']}:{name}" for name in meta["names"]]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*names, *numbers])
    for row, record in zip(rows, records, strict=True):
        values = [""] * len(numbers) if record.values is None else _plain(record.values.ravel())
        cells = ["" if row[name] is None else row[name] for name in names]
        writer.writerow([*map(_cell, cells), *values])
    return stream.getvalue().encode()


def _from_csv(data: bytes) -> list[Record]:
    rows = csv.DictReader(io.StringIO(data.decode(), newline=""))
    found = []
    for row in rows:
        numbers = [name for name in row if name.startswith(("probabilities:", "features:"))]
        values = [row.pop(name) for name in numbers]
        array = np.array(values, np.float32) if values and values[0] != "" else None
        plain = {name: _said(value) for name, value in row.items()}
        plain = {**plain, **{name: row[name] or None for name in COLUMNS}, "digest": row["digest"]}
        found.append(_record({**plain, "path": row["path"]}, array))
    return found


def _said(cell: str) -> Any:
    try:
        return json.loads(cell) if cell else None
    except ValueError:
        return cell


def _cell(value: Any) -> Any:
    """Return a number as it is, a flag as JSON says it, text that can be written anywhere."""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return value
    return str(value).encode(errors="backslashreplace").decode()


def _plain(values: Array) -> list[Any]:
    """Return float32 as the shortest numbers that mean them."""
    shortest = [float(str(value)) for value in values.ravel()]
    return np.array(shortest).reshape(values.shape).tolist()  # type: ignore[no-any-return]


FORMS = {
    "parquet": Form(_to_parquet, _from_parquet),
    "jsonl": Form(_to_jsonl, _from_jsonl),
    "csv": Form(_to_csv, _from_csv),
}


def read(path: Path | str, data: bytes) -> list[Record]:
    """Return the records of a file by its ending. Raises StorageError for a damaged one."""
    try:
        return FORMS[Path(path).suffix[1:]].decode(data)
    except (ValueError, KeyError, OSError, UnicodeError) as error:
        raise StorageError(
            f"'{path}' is damaged ({error}). Delete it and start the job again: it does that part "
            "anew."
        ) from error
