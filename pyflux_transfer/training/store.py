"""Features on disk: fixed-size rows by key, kept between runs within a size limit.

A store is a folder: `meta.json` (the row's shape; its time is that of the last use), `rows.f32`
(rows one after another) and `keys.bin` (their 32-byte keys in the same order). Both only grow,
rows before keys, so a crash leaves at most rows without a key, which the next opening cuts off.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from pyflux_transfer.data import readable
from pyflux_transfer.errors import StorageError
from pyflux_transfer.networks.tensors import Array, Shape

KEY_BYTES = 32
DISK_BYTES = 10 * 2**30
_META, _ROWS, _KEYS = "meta.json", "rows.f32", "keys.bin"


class Store:
    """Float32 rows of one shape by 32-byte key. Opened for appending by one process at a time."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.shape = shape
        self._row_bytes = 4 * math.prod(shape)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _META).write_text(json.dumps({"shape": shape}), "utf-8")
            self._rows = _open(folder / _ROWS)
            self._keys = _open(folder / _KEYS)
            self.close = weakref.finalize(self, _close, self._rows, self._keys)
            self.index = self._recover()
        except OSError as error:
            raise StorageError(
                f"Cannot use the feature cache in {folder}: {error}. "
                "Set PYFLUX_CACHE to another folder, or pass cache=False (--no-cache)."
            ) from error

    def _recover(self) -> dict[bytes, int]:
        """Read the keys, and cut both files to the rows that are whole."""
        keys = _split(self._keys.read())
        count = min(len(keys), self._rows.seek(0, os.SEEK_END) // self._row_bytes)
        self._rows.truncate(count * self._row_bytes)
        self._keys.truncate(count * KEY_BYTES)
        return {key: i for i, key in enumerate(keys[:count])}

    def append(self, keys: Sequence[bytes], rows: Array) -> None:
        """Add rows; a full disk raises StorageError and loses none that were there."""
        try:
            _write(self._rows, np.ascontiguousarray(rows).data.cast("B"))
            _write(self._keys, memoryview(b"".join(keys)))
        except OSError as error:
            raise StorageError(
                f"Cannot write to the feature cache: {error}. Free some space "
                "(pyflux-transfer cache --clear), or pass cache=False (--no-cache)."
            ) from error
        self.index.update({key: len(self.index) + i for i, key in enumerate(keys)})

    def read(self, keys: Sequence[bytes]) -> Array:
        """Return the rows of the keys (N, *shape).

        Reads instead of mapping the file: what was read does not stay in the process's memory.
        """
        out = np.empty((len(keys), *self.shape), np.float32)
        for row, key in zip(out, keys, strict=True):
            self._rows.seek(self.index[key] * self._row_bytes)
            if self._rows.readinto(row.data.cast("B")) != self._row_bytes:  # type: ignore[attr-defined]
                raise StorageError(
                    "The feature cache was changed by another program. Clear it: "
                    "pyflux-transfer cache --clear."
                )
        return out


def _open(path: Path) -> BinaryIO:
    """Open to read anywhere and append, without a buffer; the position is at the start."""
    file = path.open("a+b", buffering=0)
    file.seek(0)
    return file


def _close(*files: BinaryIO) -> None:
    for file in files:
        file.close()


def _write(file: BinaryIO, data: memoryview) -> None:
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
            sizes = [meta.with_name(name).stat().st_size for name in (_ROWS, _KEYS)]
            count, used = sizes[1] // KEY_BYTES, meta.stat().st_mtime
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
    return FileLock(folder.with_suffix(".lock"))


def _delete(folder: Path) -> bool:
    try:
        with lock(folder).acquire(timeout=0):
            shutil.rmtree(folder)
    except (Timeout, OSError):
        return False
    return True
