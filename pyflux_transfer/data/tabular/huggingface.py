"""Rows of Hugging Face's `datasets`: a Dataset, or a DatasetDict of splits.

Images are read when they are wanted, as the bytes that the dataset holds: never by its own decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pyflux_transfer.data.splitnames import TRAIN, split_of
from pyflux_transfer.data.tabular.contents import Fetched
from pyflux_transfer.data.tabular.rows import Rows, Table
from pyflux_transfer.errors import DataError, InputError

_NAME, _LIBRARY = "the dataset", "datasets."


def rows(data: Any, named: Table) -> Rows:
    """Return the rows of a Dataset or DatasetDict; its keys are the splits."""
    kinds = [kind.__name__ for kind in type(data).__mro__ if kind.__module__.startswith(_LIBRARY)]
    if "DatasetDict" in kinds:
        return _of_splits(data, named)
    if "Dataset" not in kinds:
        raise InputError(
            f"{_NAME} is a {type(data).__name__}, which cannot be gone through twice. Load it with "
            "streaming=False."
        )
    return _rows({"": data}, data.features, named)


def _of_splits(splits: Mapping[str, Any], named: Table) -> Rows:
    meant: dict[str, str] = {}
    for key in splits:
        split = split_of(key)
        if split is None or split in meant:
            why = "means no split" if split is None else f"means {split}, as '{meant[split]}' does"
            raise DataError(
                f"The key '{key}' of {_NAME} {why}. Choose: DatasetDict({{'train': data['{key}']}})"
                ", beside which 'valid' and 'test' are known."
            )
        meant[split] = key
    first = meant.get(TRAIN) or next(iter(splits))
    parts = {split: splits[key] for split, key in meant.items()}
    return _rows(parts, splits[first].features, named)


def _rows(parts: Mapping[str, Any], features: Mapping[str, Any], named: Table) -> Rows:
    images = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    labels = {name: kind.names for name, kind in features.items()
              if type(kind).__name__ == "ClassLabel"}  # fmt: skip
    # What the types tell; where two are of a type, their names do.
    found = {
        role: names[0]
        for role, names in (("path", images), ("label", list(labels)))
        if len(names) == 1
    }
    labelled = {
        split: data
        for split, data in parts.items()
        if split in ("", TRAIN) or not _unlabelled(data, found.get("label"), labels)
    }
    columns = [name for name in features if name != "split" or "" in parts]
    if "" not in parts:
        columns.append("split")
    return Rows(
        _NAME, columns, _cells(labelled, set(images), labels), Path(named.folder or "."),
        found=found, order=labels,
        notes=tuple(f"the {split} images have no labels and are left out"
                    for split in parts if split not in labelled),
    )  # fmt: skip


def _unlabelled(data: Any, label: str | None, names: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether no image has a label, as in tests whose answers are kept secret."""
    if label is None or label not in names:
        return False
    return all(v is None or v < 0 for v in data.with_format(None).select_columns([label])[label])


def _cells(
    parts: Mapping[str, Any], images: set[str], labels: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for split, data in parts.items():
        plain = data.with_format(None)
        flat = plain.select_columns([c for c in plain.column_names if c not in images])
        columns = {name: _named(labels.get(name), list(flat[name])) for name in flat.column_names}
        fetch = {name: _fetcher(plain, name) for name in images}
        for i in range(len(data)):
            cells = {name: values[i] for name, values in columns.items()}
            cells |= {name: Fetched(look, i) for name, look in fetch.items()}
            yield f"{split} row {i}".strip(), cells | ({"split": split} if split else {})


def _fetcher(data: Any, column: str) -> Any:
    """Return what looks up an image's bytes and path, without decoding them."""
    import datasets

    raw = data.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return partial(_cell, raw, column)


def _cell(data: Any, column: str, row: int) -> Any:
    return data[row][column]


def _named(names: Sequence[str] | None, values: Sequence[Any]) -> Sequence[Any]:
    """Return labels by their names; below 0 one is not labelled."""
    if names is None:
        return values
    return [None if value is None or value < 0 else names[value] for value in values]
