"""Features on disk: fixed-size rows by key, kept between runs within a size limit.

A store is a folder: `meta.json` (the row's shape), `rows.f32` (rows one after another) and
`keys.bin` (their 32-byte keys in the same order). Both only grow, rows before keys, so a crash
leaves at most rows without a key, which the next opening cuts off.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from pyflux_transfer.engines.base import Array, Shape
from pyflux_transfer.errors import StorageError

KEY_BYTES = 32
DISK_BYTES = 10 * 2**30


def cache_folder() -> Path:
    """Return the user's cache folder; the environment variable PYFLUX_CACHE overrides it."""
    given = os.environ.get("PYFLUX_CACHE")
    return Path(given) if given else platformdirs.user_cache_path("pyflux-transfer")


class Store:
    """Float32 rows of one shape by 32-byte key. Opened for appending by one process at a time."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.shape = shape
        self._row_bytes = 4 * math.prod(shape)
        self._rows: IO[bytes]
        self._keys: IO[bytes]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "meta.json").write_text(json.dumps({"shape": shape}), "utf-8")
            self._rows = (folder / "rows.f32").open("a+b", buffering=0)
            self._keys = (folder / "keys.bin").open("a+b", buffering=0)
            self.index = self._recover()
        except OSError as error:
            raise StorageError(
                f"Cannot use the feature cache in {folder}: {error}. "
                "Set PYFLUX_CACHE to another folder, or pass cache=False."
            ) from error

    def _recover(self) -> dict[bytes, int]:
        """Read the keys, and cut both files to the rows that are whole."""
        self._keys.seek(0)
        data = self._keys.read()
        count = min(len(data) // KEY_BYTES, self._rows.seek(0, os.SEEK_END) // self._row_bytes)
        self._rows.truncate(count * self._row_bytes)
        self._keys.truncate(count * KEY_BYTES)
        return {data[i * KEY_BYTES : (i + 1) * KEY_BYTES]: i for i in range(count)}

    def append(self, keys: Sequence[bytes], rows: Array) -> None:
        """Add rows; a full disk raises StorageError and loses none that were there."""
        try:
            _write(self._rows, np.ascontiguousarray(rows).data.cast("B"))
            _write(self._keys, memoryview(b"".join(keys)))
        except OSError as error:
            raise StorageError(
                f"Cannot write to the feature cache: {error}. Free some space "
                "(pyflux-transfer cache --clear), or pass cache=False."
            ) from error
        self.index.update({key: len(self.index) + i for i, key in enumerate(keys)})

    def read(self, keys: Sequence[bytes]) -> Array:
        """Return the rows of the keys (N, *shape).

        Reads instead of mapping the file: what was read does not stay in the process's memory.
        """
        out = np.empty((len(keys), *self.shape), np.float32)
        for row, key in zip(out.reshape(len(keys), -1), keys, strict=True):
            self._rows.seek(self.index[key] * self._row_bytes)
            if self._rows.readinto(row.data.cast("B")) != self._row_bytes:  # type: ignore[attr-defined]
                raise StorageError("The feature cache was changed by another program. Clear it.")
        return out

    def close(self) -> None:
        """Close the files."""
        self._rows.close()
        self._keys.close()


def _write(file: IO[bytes], data: memoryview) -> None:
    """Write all of it: a raw file may take less at once than it is given."""
    while data:
        data = data[file.write(data) :]


@dataclass(frozen=True)
class Entry:
    """One store in the cache folder."""

    name: str
    shape: Shape
    rows: int
    size_bytes: int
    used: float  # seconds since the epoch


def entries(folder: Path) -> list[Entry]:
    """List the stores, the one used longest ago first."""
    found = []
    for path in folder.glob("*/meta.json"):
        files = [path.parent / "rows.f32", path.parent / "keys.bin"]
        if not all(file.exists() for file in files):
            continue
        shape = tuple(json.loads(path.read_text("utf-8"))["shape"])
        sizes = [file.stat().st_size for file in files]
        used = path.stat().st_mtime
        found.append(Entry(path.parent.name, shape, sizes[1] // KEY_BYTES, sum(sizes), used))
    return sorted(found, key=lambda entry: entry.used)


def make_room(folder: Path, needed_bytes: int, limit_bytes: int, keep: str = "") -> bool:
    """Delete the stores used longest ago until `needed_bytes` fit; False if they never can.

    Stores that another process is writing, and `keep`, stay.
    """
    if needed_bytes > limit_bytes:
        return False
    rows = entries(folder)
    total = sum(entry.size_bytes for entry in rows)
    for entry in rows:
        if total + needed_bytes <= limit_bytes:
            return True
        if entry.name != keep and _delete(folder / entry.name):
            total -= entry.size_bytes
    return total + needed_bytes <= limit_bytes


def clear(folder: Path) -> int:
    """Delete all stores that nobody is writing; return the bytes freed."""
    (folder / "readable.bin").unlink(missing_ok=True)
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


def readable(folder: Path) -> set[str]:
    """Return the content digests of images that were seen to decode."""
    file = folder / "readable.bin"
    data = file.read_bytes() if file.exists() else b""
    return {data[i : i + KEY_BYTES].hex() for i in range(0, len(data), KEY_BYTES)}


def remember_readable(folder: Path, digests: Sequence[str]) -> None:
    """Add content digests of images that were seen to decode; losing this file costs only time."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "readable.bin").open("ab") as file:
            file.write(b"".join(bytes.fromhex(digest) for digest in digests))
