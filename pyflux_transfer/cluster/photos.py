"""Which photos a job is about: what a folder, a table or an address names, and a shard's share."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from pyflux_transfer.cluster.optional import needed
from pyflux_transfer.data.listing import files, list_source
from pyflux_transfer.data.reading import byte_limit, read_file
from pyflux_transfer.data.splitnames import split_of
from pyflux_transfer.errors import DataError, ImageError, InputError, readable, shortened

_TORN = re.compile(r"([a-z][a-z0-9+.]+):/(?=[^/])")  # not a Windows drive, which is one letter
_TOLD = ("path", "label", "split", "group")
_TABLES = (".csv", ".tsv", ".parquet")
_PHOTOS = {
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".jxl", ".png", ".tif", ".tiff",
    ".webp",
}  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """A photo's path or address, and what its source tells of it.

    `known` is the digest under which an earlier run has kept it.
    """

    path: str
    label: str | None = None
    split: str | None = None
    group: str | None = None
    known: str | None = None


@dataclass(frozen=True)
class Shard:
    """One share of a job, `3/8`: the third of eight. Shares are disjoint, and together all."""

    index: int = 1
    count: int = 1

    @classmethod
    def of(cls, text: str) -> Shard:
        """Read `3/8`. Raises InputError."""
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        index, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= count:
            raise InputError(f"--shard must be as 3/8, from 1/8 to 8/8; got {text!r}.")
        return cls(index, count)

    def holds(self, photo: Photo) -> bool:
        """Tell whether a photo is this shard's, by its path alone: others may come and go."""
        return zlib.crc32(photo.path.encode(errors="surrogateescape")) % self.count + 1 == (
            self.index
        )


def photos(source: str, *, labelled: bool = False) -> list[Photo]:
    """Return the photos of a source, each path once, sorted by path.

    A source is a photo, a folder, a table (CSV or Parquet with a column `path`, relative to the
    table, and as you like `label`, `split`, `group`), or one of these at an address
    (`s3://bucket/folder`, `gs://…`, `https://…`). `labelled` takes a folder's classes and splits as
    `train` does. Raises InputError or DataError where nothing is there.
    """
    source = address(source)
    found = list(_named(source, labelled))
    if not found:
        raise InputError(f"'{shortened(source)}' holds no photo.")
    return sorted({photo.path: photo for photo in found}.values(), key=lambda photo: photo.path)


def address(source: str) -> str:
    """Return an address with both its slashes, of which a path keeps one; else what was given."""
    found = _TORN.match(source)
    if not found:
        return source
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{source[found.end() :]}"


def is_address(source: str) -> bool:
    """Tell whether a source lies behind an address rather than on a disk."""
    return "://" in source


def content(path: str, max_pixels: int) -> bytes:
    """Return a photo's bytes, from the disk or its address. Raises ImageError."""
    if not is_address(path):
        return read_file(path, max_pixels)
    limit = byte_limit(max_pixels)
    try:
        with needed("fsspec", "Reading from an address").open(path, "rb") as stream:
            data: bytes = stream.read(limit + 1)
    except (OSError, ValueError) as error:
        raise ImageError(f"'{shortened(path)}' cannot be read: {error or 'no answer'}.") from error
    if len(data) > limit:
        raise ImageError(f"'{shortened(path)}' cannot be read: it has more than {limit:,} bytes.")
    return data


def _named(source: str, labelled: bool) -> Iterator[Photo]:
    suffix = Path(source).suffix.lower()
    if suffix in _TABLES:
        yield from _table(source)
    elif is_address(source):
        yield from _behind(source)
    elif not Path(source).exists():
        raise InputError(f"No such file: '{shortened(source)}'.")
    elif not Path(source).is_dir():
        yield Photo(source)
    elif labelled and any(place.is_dir() for place in Path(source).iterdir()):
        listing = list_source(source)
        for split, entries in listing.parts.items():
            yield from (Photo(str(e.path), e.name, split, e.group) for e in entries)
        for split, skipped in listing.skipped.items():
            yield from (Photo(str(item.path), None, split) for item in skipped)
    else:
        yield from (Photo(str(path)) for path in files(Path(source)))


def _behind(source: str) -> Iterator[Photo]:
    """List a folder behind an address; what has a photo's ending is a photo itself."""
    if Path(source).suffix.lower() in _PHOTOS:
        yield Photo(source)
        return
    fs, root = needed("fsspec", "Reading from an address").core.url_to_fs(source)
    try:
        names = fs.find(root)
    except (OSError, NotImplementedError) as error:
        raise InputError(
            f"'{shortened(source)}' cannot be listed ({error}). Give a table of addresses."
        ) from error
    for name in names:
        if Path(name).suffix.lower() in _PHOTOS:
            yield Photo(fs.unstrip_protocol(name))


# --- tables --------------------------------------------------------------------------------------


def _table(source: str) -> Iterator[Photo]:
    base = source.rpartition("/")[0] if is_address(source) else str(Path(source).parent)
    read = _parquet if source.lower().endswith(".parquet") else _csv
    for row in read(source):
        path = str(row.get("path") or "").strip()
        if not path:
            raise DataError(f"'{shortened(source)}' has a row without a path. Remove it.")
        told = {name: str(row[name]).strip() for name in _TOLD[1:] if row.get(name)}
        if "label" in told:
            told["label"] = unicodedata.normalize("NFC", told["label"])
        if "split" in told:
            told["split"] = _split(source, told["split"])
        yield Photo(_place(base, address(path)), **told)


def _split(source: str, text: str) -> str:
    found = split_of(text)
    if found is None:
        raise DataError(
            f"'{shortened(source)}': split must be train, valid or test, got '{readable(text)}'."
        )
    return found


def _place(base: str, path: str) -> str:
    if is_address(path):
        return path
    return f"{base}/{path}" if is_address(base) else str(Path(base, path))


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    """Open a table, on the disk or at its address. Raises DataError for what cannot be read."""
    try:
        if is_address(source):
            with needed("fsspec", "Reading from an address").open(source, "rb") as stream:
                yield stream
        else:
            with Path(source).open("rb") as stream:
                yield stream
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"'{shortened(source)}' cannot be read: {error}.") from error


def _csv(source: str) -> Iterator[dict[str, Any]]:
    with _opened(source) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        first = text.readline()
        separator = max(",;\t|", key=first.count)
        cells = next(csv.reader([first], delimiter=separator), [])
        columns = [name.strip().casefold() for name in cells]
        _check(source, columns)
        yield from csv.DictReader(text, columns, delimiter=separator, restval="")


def _parquet(source: str) -> Iterator[dict[str, Any]]:
    parquet = needed("pyarrow.parquet", "A Parquet table")
    with _opened(source) as stream:
        file = parquet.ParquetFile(stream)
        columns = file.schema_arrow.names
        _check(source, columns)
        wanted = [name for name in _TOLD if name in columns]
        for batch in file.iter_batches(columns=wanted):
            yield from batch.to_pylist()


def _check(source: str, columns: Sequence[str]) -> None:
    if "path" not in columns:
        there = ", ".join(map(readable, columns)) or "none"
        raise DataError(
            f"'{shortened(source)}' lacks the column 'path', it has: {there}. "
            "Its columns must be path and, as you like, label, split, group."
        )


def with_known(found: Iterable[Photo], known: dict[str, str]) -> list[Photo]:
    """Return the photos with the digests under which they are kept."""
    return [replace(photo, known=known.get(readable(photo.path))) for photo in found]
