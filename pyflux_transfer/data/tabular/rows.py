"""What every reader of tables returns, and how its columns are found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pyflux_transfer.data.splitnames import split_of
from pyflux_transfer.errors import DataError, nearest, suggest

ROLES = ("path", "label", "split", "group")
NEEDED = ("path", "label")
_OPTIONAL = ("split", "group")
_ALIKE = 0.75  # groups, splt, group_id; not "plot", "photographer"
# What people call the columns, where nothing is called path or label.
_ALIASES = {
    "path": (
        "file", "filename", "file_name", "filepath", "file_path", "image", "images", "image_path",
        "img", "img_path", "photo", "picture",
    ),
    "label": ("labels", "class", "class_name", "category", "target", "y"),
}  # fmt: skip


class Tabular(Protocol):
    """A pandas or polars frame, a pyarrow table, or a Dataset of Hugging Face."""

    @property
    def shape(self) -> Any:
        """Count the rows and columns."""


@dataclass(frozen=True)
class Table:
    """A table whose columns are named: `Table(frame, path="file", label="species")`.

    `data` is a pandas or polars frame, a pyarrow table, a `datasets` object, or the path of a CSV
    or Parquet file. Columns that are not named are found as they are without it. Relative paths
    start at `folder`; by default that is where the table lies, else the current one.
    """

    data: Tabular | str | Path
    path: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    folder: str | Path | None = None


@dataclass(frozen=True)
class Rows:
    """A table as a reader gives it: `cells` are the row, as messages call it, and its values.

    `name` is how messages call the table, `base` where relative paths start, and `found` are
    columns that the reader knows the meaning of. `loose` takes other names of columns, too.
    `order` is that of the classes.
    """

    name: str
    columns: Sequence[str]
    cells: Iterable[tuple[str, Mapping[str, Any]]]
    folder: Path
    base: str = "the current folder"
    found: Mapping[str, str] | None = None
    loose: bool = True
    order: Mapping[str, Sequence[Any]] | None = None  # by column
    notes: tuple[str, ...] = ()


def roles(rows: Rows, named: Table, needed: Sequence[str] = NEEDED) -> dict[str, str]:
    """Return the column of each role that a table has; raise DataError where one is missing."""
    columns = list(rows.columns)
    found: dict[str, str] = {}
    for role in ROLES:
        column = _exact(getattr(named, role), columns)
        if column is not None and column not in columns:
            raise DataError(
                f"{rows.name} lacks the column '{column}', which was named as {role}. It has: "
                f"{_listed(columns)}.{suggest(str(column), map(str, columns))}"
            )
        if column is None:
            column = (rows.found or {}).get(role) or _found(rows, role, set(found.values()))
        if column is not None:
            found[role] = column
        elif role in needed:
            raise DataError(_lacking(rows, role))
    for column in found.values():
        if columns.count(column) > 1:
            raise DataError(f"{rows.name} has the column '{column}' twice. Remove one of them.")
    _refuse_misspelt(rows, found)
    return found


def _exact(name: str | None, columns: Sequence[str]) -> str | None:
    """Return the column that is called so, or but for its case and blanks."""
    if name is None or name in columns:
        return name
    form = str(name).strip().casefold()
    return next((c for c in columns if str(c).strip().casefold() == form), name)


def _found(rows: Rows, role: str, taken: set[str]) -> str | None:
    """Return the column that is called as a role or, where that is so of but one, an alias."""
    by_form: dict[str, list[str]] = {}
    for column in rows.columns:
        by_form.setdefault(str(column).strip().casefold(), []).append(column)
    if role in by_form:
        return by_form[role][0]
    if not rows.loose:
        return None
    some = [by_form[alias][0] for alias in _ALIASES.get(role, ()) if alias in by_form]
    some = [column for column in some if column not in taken]
    if len(some) > 1:
        raise DataError(
            f"{rows.name} has the columns {_listed(some)}, each of which may be the {role}. Say "
            f"which: Table(data, {role}='{some[0]}')."
        )
    return some[0] if some else None


def _lacking(rows: Rows, role: str) -> str:
    names = [str(column) for column in rows.columns]
    text = (
        f"{rows.name} lacks the column '{role}', it has: {', '.join(names) or 'none'}."
        f"{suggest(role, names)} "
    )
    if not rows.loose:
        return (
            f"{text}Its first line must be path,label or path,label,split,group, of which the last "
            "two are as you like."
        )
    return f"{text}Rename it, or say which it is: Table(data, {role}='{(names or ['…'])[0]}')."


def _refuse_misspelt(rows: Rows, found: Mapping[str, str]) -> None:
    """Refuse a column that may be meant for one that is not there: unread, it would be missed."""
    missing = [role for role in _OPTIONAL if role not in found]
    for column in rows.columns:
        meant = nearest(str(column), missing, _ALIKE) if column not in found.values() else None
        if meant:
            raise DataError(
                f"{rows.name} has the column '{column}', which is not read. Did you mean "
                f"'{meant}'? Rename it to that or, where it means something else, to a name less "
                "alike."
            )


class Unread:
    """Watches the columns that are not read for one that tells splits after all."""

    def __init__(self, rows: Rows, found: Mapping[str, str]) -> None:
        self._name = rows.name
        self._rest = [] if "split" in found else set(rows.columns) - set(found.values())
        self._said: dict[str, set[str | None]] = {}

    def row(self, cells: Mapping[str, Any]) -> None:
        """Take a row's cells."""
        for column in self._rest:
            value = cells.get(column)
            said = split_of(value) if isinstance(value, str) else None
            self._said.setdefault(column, set()).add(said)

    def check(self) -> None:
        """Raise DataError where all cells of a column told splits, and not but one."""
        for column, splits in self._said.items():
            if None not in splits and len(splits) > 1:
                raise DataError(
                    f"The column '{column}' of {self._name} tells splits, but it is not called "
                    "split. Rename it, or remove it where it means nothing."
                )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(f"'{column}'" for column in columns) or "none"
