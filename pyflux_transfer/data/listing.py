"""The door through which sources come in: what they name, before any image is opened."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyflux_transfer.data.entries import Content
from pyflux_transfer.data.entries import Entry as Entry
from pyflux_transfer.data.entries import Listing as Listing
from pyflux_transfer.data.folders import list_folders
from pyflux_transfer.data.tabular import csvs, frames, huggingface
from pyflux_transfer.data.tabular.listed import listing, photos
from pyflux_transfer.data.tabular.rows import Rows, Table, Tabular
from pyflux_transfer.data.walk import cause, walk
from pyflux_transfer.errors import DataError, InputError, shortened

Labelled = str | Path | Table | Tabular | Listing
Read = Callable[[Any, Table], Rows]

# Readers of tables: by the ending of a file, and by the library that an object is of. Places other
# than this machine's disks will be a third table, by scheme.
BY_ENDING: dict[str, Read] = {
    ".csv": csvs.rows,
    ".tsv": csvs.rows,
    ".parquet": frames.parquet,
    ".pq": frames.parquet,
}
BY_LIBRARY: dict[str, Read] = {
    "pandas": frames.pandas,
    "polars": frames.polars,
    "pyarrow": frames.arrow,
    "datasets": huggingface.rows,
}


def list_source(source: Labelled) -> Listing:
    """Return the entries of a source by split, "train" first, sorted by path.

    A folder has one folder a class, or `train` beside `val` and `test` with one folder a class in
    each. A table has the columns `path`, `label` and, as you like, `split` and `group`: a CSV,
    whose cells are separated by commas, semicolons or tabs, a Parquet file, a frame of pandas or
    polars, an Arrow table, or a dataset of Hugging Face, whose keys are splits. Paths are relative
    to the file, else to the current folder. In place of paths, objects and Parquet files may hold
    images. Raises DataError when nothing is there or the layout is another.
    """
    if isinstance(source, Listing):
        return source
    table = as_table(source)
    if found := _reader(table.data):
        return listing(found(_given(table.data), table), table)
    path = Path(table.data)  # type: ignore[arg-type]
    kind = _kind(path)
    if kind == "folder":
        folder = list_folders(path)
        parts = {
            split: [Entry(place, name) for place, name in placed]
            for split, placed in folder.parts.items()
        }
        return Listing(parts, folder.skipped, tuple(folder.notes))
    if kind:
        raise DataError(f"'{path}' is neither a folder nor a .csv table of images, nor a .parquet.")
    raise DataError(f"'{path}' does not exist. Give a folder with one folder of images a class.")


def is_table(source: object) -> bool:
    """Tell whether `source` is a table, or a file that holds one; a single column is none."""
    if isinstance(source, (str, Path, Table)):
        return isinstance(source, Table) or _reader(source) is not None
    columns = any(hasattr(type(source), name) for name in ("columns", "column_names"))
    return columns and _reader(source) is not None


def list_photos(source: Labelled) -> list[tuple[str, Path | Content]]:
    """Return the images of a table in its order, with names; no labels are needed."""
    table = as_table(source)
    found = _reader(table.data)
    assert found is not None, "is_table says so"
    return photos(found(_given(table.data), table), table)


def as_table(source: object) -> Table:
    """Return a source with the names of its columns, as far as they were given."""
    if isinstance(source, Table):
        return source
    if not isinstance(source, (str, Path)) and _library(source) is None:
        raise InputError(
            f"Photos are given as a folder, a table (.csv, .parquet), a frame of pandas or polars, "
            f"or a dataset of Hugging Face, got {type(source).__name__}."
        )
    return Table(source)  # type: ignore[arg-type]


def files(folder: Path) -> list[Path]:
    """Return what to read in a folder and the folders in it, sorted; what cannot be read, too."""
    found = walk(folder)
    return sorted([*found.files, *(item.path for item in found.skipped)])


def _given(data: Any) -> Any:
    return Path(data) if isinstance(data, str) else data


def _reader(data: object) -> Read | None:
    """Return what reads a table; None for what is none, and for files that are not there."""
    if not isinstance(data, (str, Path)):
        return BY_LIBRARY.get(_library(data) or "")
    path = Path(data)
    found = BY_ENDING.get(path.suffix.lower())
    return found if found and _kind(path) == "file" else None


def _library(data: object) -> str | None:
    """Return the library that an object is of, told without importing any."""
    names = [kind.__module__.split(".")[0] for kind in type(data).__mro__]
    return next((name for name in names if name in BY_LIBRARY), None)


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
