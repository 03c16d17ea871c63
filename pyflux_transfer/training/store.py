"""Features on disk: fixed-size rows by key, kept between runs within a size limit.

A store is a folder: `meta.json` (the row's shape; its time is that of the last use), `rows.f32`
(rows one after another), `sums.bin` (CRC-32 of each key and row) and `keys.bin` (their 32-byte
keys), in the same order. All only grow. Rows are on the disk before their keys, so a crash leaves
at most rows without a key, which the next opening cuts off.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import time
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from pyflux_transfer.data import readable
from pyflux_transfer.errors import StorageError
from pyflux_transfer.networks.tensors import Array, Shape
from pyflux_transfer.storage import open_appending

KEY_BYTES, SUM_BYTES = 32, 4
BESIDE_BYTES = KEY_BYTES + SUM_BYTES  # what a row takes beside its numbers
DISK_BYTES = 10 * 2**30
SYNC_BYTES, SYNC_S = 2**26, 2.0  # rows may wait so long for their keys, and be lost in a crash
RUN = 256  # rows that are read at once
_META, _ROWS, _SUMS, _KEYS = "meta.json", "rows.f32", "sums.bin", "keys.bin"


class Store:
    """Float32 rows of one shape by 32-byte key. Opened for appending by one process at a time.

    One that is not `lasting` serves its process alone: no keys are written, nothing is flushed.
    """

    def __init__(self, folder: Path, shape: Shape, *, lasting: bool = True) -> None:
        self.shape = shape
        self._lasting = lasting
        self._row_bytes = 4 * math.prod(shape)
        self._waiting: list[tuple[bytes, bytes]] = []  # keys and sums of rows not on the disk yet
        self._flushed = time.monotonic()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _refuse_links(folder, folder / _META)
            (folder / _META).write_text(json.dumps({"shape": shape}), "utf-8")
            with contextlib.ExitStack() as opened:
                files = [_open(opened, folder / name) for name in (_ROWS, _SUMS, _KEYS)]
                self._rows, self._sums, self._keys = files
                self.index = self._recover()
                opened.pop_all()
            self._closer = weakref.finalize(self, _close, *files)
        except OSError as error:
            raise StorageError(
                f"Cannot use the feature cache in {folder}: {error}. "
                "Set PYFLUX_CACHE to another folder, or pass cache=False (--no-cache)."
            ) from error

    def _recover(self) -> dict[bytes, int]:
        """Read the keys, and cut the files to the rows that are whole."""
        keys = _split(self._keys.read())
        count = min(
            len(keys),
            self._rows.seek(0, os.SEEK_END) // self._row_bytes,
            self._sums.seek(0, os.SEEK_END) // SUM_BYTES,
        )
        self._rows.truncate(count * self._row_bytes)
        self._sums.truncate(count * SUM_BYTES)
        self._keys.truncate(count * KEY_BYTES)
        self._written = count
        return {key: i for i, key in enumerate(keys[:count])}

    def append(self, keys: Sequence[bytes], rows: Array) -> None:
        """Add rows; a full disk raises StorageError and loses none that were there."""
        rows = np.ascontiguousarray(rows, np.float32)
        try:
            write_all(self._rows, rows.data.cast("B"))
        except OSError as error:
            self._rows.truncate(self._written * self._row_bytes)  # what was cut short
            raise _full(error) from error
        self.index.update({key: self._written + i for i, key in enumerate(keys)})
        self._written += len(keys)
        if not self._lasting:
            return
        self._waiting += [(key, _sum(key, row)) for key, row in zip(keys, rows, strict=True)]
        waited = time.monotonic() - self._flushed
        if waited >= SYNC_S or len(self._waiting) * self._row_bytes >= SYNC_BYTES:
            self.flush()

    def flush(self) -> None:
        """Bring rows to the disk, then their sums and keys; a full disk raises StorageError."""
        if not self._waiting:
            return
        keys, sums = zip(*self._waiting, strict=True)
        done = self._written - len(keys)  # rows whose keys are in the file
        try:
            os.fsync(self._rows.fileno())
            self._sums.truncate(done * SUM_BYTES)  # an earlier try may have failed midway
            self._keys.truncate(done * KEY_BYTES)
            write_all(self._sums, memoryview(b"".join(sums)))
            write_all(self._keys, memoryview(b"".join(keys)))
        except OSError as error:
            raise _full(error) from error
        self._waiting.clear()
        self._flushed = time.monotonic()

    def damaged(self, keys: Iterable[bytes]) -> list[bytes]:
        """Forget the rows whose sum does not fit and return their keys; they can be added anew."""
        bad = [key for key in keys if not self._whole(key)]
        for key in bad:
            del self.index[key]
        return bad

    def _whole(self, key: bytes) -> bool:
        place = self.index[key]
        row = np.empty(self.shape, np.float32)
        self._rows.seek(place * self._row_bytes)
        count = self._rows.readinto(row.data.cast("B"))  # type: ignore[attr-defined]
        self._sums.seek(place * SUM_BYTES)
        return count == self._row_bytes and self._sums.read(SUM_BYTES) == _sum(key, row)

    def read(self, keys: Sequence[bytes]) -> Array:
        """Return the rows of the keys (N, *shape).

        Reads instead of mapping the file: what was read does not stay in the process's memory.
        """
        out = np.empty((len(keys), *self.shape), np.float32)
        places = [self.index[key] for key in keys]
        for begin, end in _runs(places):
            self._rows.seek(places[begin] * self._row_bytes)
            wanted = out[begin:end].data.cast("B")
            if self._rows.readinto(wanted) != len(wanted):  # type: ignore[attr-defined]
                raise StorageError(
                    "The feature cache was changed by another program. Clear it: "
                    "pyflux-transfer cache --clear."
                )
        return out

    def close(self) -> None:
        """Write what waits and close the files; where that fails, rows without a key are lost."""
        with contextlib.suppress(StorageError):
            self.flush()
        self._closer()


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of the stretches that lie behind each other in the file.

    None is longer than RUN: a single read may bring no more than 2 GiB.
    """
    begin = 0
    for end in range(1, len(places) + 1):
        behind = end < len(places) and places[end] == places[end - 1] + 1
        if not behind or end - begin == RUN:
            yield begin, end
            begin = end


def _full(error: OSError) -> StorageError:
    return StorageError(
        f"Cannot write to the feature cache: {error}. Free some space "
        "(pyflux-transfer cache --clear), or pass cache=False (--no-cache)."
    )


def _sum(key: bytes, row: Array) -> bytes:
    """Return the checksum of a row under its key: a row of another key does not fit either."""
    return zlib.crc32(row.data.cast("B"), zlib.crc32(key)).to_bytes(SUM_BYTES, "little")


def _refuse_links(*paths: Path) -> None:
    """Refuse what would have us write elsewhere, in a cache folder that others can write to."""
    for path in paths:
        if path.is_symlink():
            raise OSError(errno.ELOOP, f"{path} is a symbolic link")


def _open(stack: contextlib.ExitStack, path: Path) -> BinaryIO:
    file = stack.enter_context(open_appending(path))
    file.seek(0)
    return file


def _close(*files: BinaryIO) -> None:
    for file in files:
        file.close()


def write_all(file: BinaryIO, data: memoryview) -> None:
    """Write all of it: a raw file may take less at once than it is given."""
    while data:
        data = data[file.write(data) :]


def _split(data: bytes) -> list[bytes]:
    """Return the whole keys in the data."""
    end = len(data) - len(data) % KEY_BYTES
    return [data[i : i + KEY_BYTES] for i in range(0, end, KEY_BYTES)]


def stored(folder: Path) -> set[bytes]:
    """Return the keys in a store, or none, without opening it for writing."""
    return set(_split(_content(folder / _KEYS)))


def _content(path: Path) -> bytes:
    """Return what a file holds; nothing where it is not there, or no longer."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


@dataclass(frozen=True)
class Entry:
    """One store in the cache folder."""

    name: str
    shape: Shape
    rows: int
    size_bytes: int
    used: float  # seconds since the epoch


def entries(folder: Path) -> list[Entry]:
    """List the stores, the one used longest ago first; what a crash has left of one is empty."""
    found = []
    for meta in folder.glob(f"*/{_META}"):
        with contextlib.suppress(FileNotFoundError):  # deleted by another process meanwhile
            sizes = [meta.with_name(name).stat().st_size for name in (_ROWS, _SUMS, _KEYS)]
            count, used = sizes[-1] // KEY_BYTES, meta.stat().st_mtime
            found.append(Entry(meta.parent.name, _shape(meta), count, sum(sizes), used))
    return sorted(found, key=lambda entry: entry.used)


def _shape(meta: Path) -> Shape:
    try:
        return tuple(json.loads(_content(meta))["shape"])
    except (ValueError, KeyError, TypeError):  # the disk was full, or the machine stopped
        return ()


def make_room(folder: Path, needed_bytes: int, limit_bytes: int, keep: str = "") -> bool:
    """Delete the stores used longest ago until `needed_bytes` fit; False if they never can.

    Stores that another process is writing, and `keep`, stay.
    """
    rows = entries(folder)
    fixed = sum(entry.size_bytes for entry in rows if entry.name == keep)
    if fixed + needed_bytes > limit_bytes:
        return False
    total = sum(entry.size_bytes for entry in rows)
    for entry in rows:
        if total + needed_bytes <= limit_bytes:
            return True
        if entry.name != keep and _delete(folder / entry.name):
            total -= entry.size_bytes
    return total + needed_bytes <= limit_bytes


def clear(folder: Path) -> int:
    """Delete all stores that nobody is writing; return the bytes freed."""
    readable.forget(folder)
    return sum(entry.size_bytes for entry in entries(folder) if _delete(folder / entry.name))


def lock(folder: Path) -> FileLock:
    """Return the lock of a store; whoever appends holds it."""
    place = folder.with_suffix(".lock")
    _refuse_links(place)
    return FileLock(place)


def _delete(folder: Path) -> bool:
    try:
        with lock(folder).acquire(timeout=0):
            shutil.rmtree(folder)
    except (Timeout, OSError):
        return False
    return True
