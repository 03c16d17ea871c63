"""Rows of numbers, read and worked through in blocks, by all cores."""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, RLock
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.errors import InputError
from pyflux_transfer.installation.environment import cores
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.features import Features
from pyflux_transfer.training.store import write_all

T = TypeVar("T")

HELD_BYTES = 2**23  # up to this size rows are kept in memory, larger ones in a file, as features
BLOCK_ROWS = 256  # at least, so that products are large enough to be fast
BLOCK_NUMBERS = 2**19  # at most, of a block's rows times its widest side: 4 MiB in float64
THREADS = 8  # at most: each holds a block


@dataclass(frozen=True)
class Workers:
    """Threads that share out blocks; with none the caller works alone."""

    pool: ThreadPoolExecutor | None

    def each(self, work: Callable[[slice], T], blocks: Sequence[slice]) -> Iterator[T]:
        """Yield what the work makes of each block, in their order."""
        if self.pool is None or len(blocks) == 1:
            return map(work, blocks)
        return self.pool.map(work, blocks)


ALONE = Workers(None)
_ONE_AT_A_TIME = RLock()


@contextmanager
def workers() -> Iterator[Workers]:
    """Give a thread for each core, and let matrix products keep to the thread that asks for them.

    A product's own threads wait for each other, a processor spinning; where other programs take
    a core they take five times as long. And how blocks are summed does not depend on the cores.
    Whoever asks while another thread has the cores waits: the limit holds for the whole process.
    """
    from threadpoolctl import threadpool_limits

    with _ONE_AT_A_TIME, threadpool_limits(1, "blas"):
        if (threads := _threads()) == 1:
            yield ALONE
            return
        with ThreadPoolExecutor(threads) as pool:
            yield Workers(pool)


def _threads() -> int:
    """Return the number of cores this process may use, within limits."""
    return min(cores(), THREADS)


@dataclass(frozen=True)
class Rows:
    """Numbers (count, width) float32 that are read some rows at a time, by any thread.

    `apart`, where rows lie in other processes, has `sums(labels, wanted, share)`: what sums over
    them there (`logistic.Sums`).
    """

    count: int
    width: int
    read: Callable[[slice], Array]  # → (n, width)
    apart: Any = None

    @classmethod
    def of(cls, features: Array | Features) -> Rows:
        """Read an array (N, ...), which is not copied, or kept features; more axes are flattened.

        Raises InputError where there is no row.
        """
        given = _array(features) if isinstance(features, np.ndarray) else _by_turns(features)
        if not given.count:
            raise InputError("A head is solved from at least one row of features, got none.")
        return given

    def blocks(self, columns: int = 1) -> list[slice]:
        """Return blocks of rows, of each of which the caller makes `columns` numbers.

        A block has four times as many rows as columns, where there is room: its product with
        them (columns, width) is then added to the others' in little time.
        """
        return blocks(self.count, self.width, columns)


def blocks(count: int, width: int, columns: int = 1) -> list[slice]:
    """Return blocks of rows (count, width): see `Rows.blocks`."""
    most = max(BLOCK_NUMBERS // max(width, columns), 1)
    step = min(max(4 * columns, BLOCK_ROWS), most)
    return [slice(at, min(at + step, count)) for at in range(0, count, step)]


def _array(features: Array) -> Rows:
    flat = features.reshape(len(features), math.prod(features.shape[1:]))
    return Rows(*flat.shape, lambda rows: np.asarray(flat[rows], np.float32))


def _by_turns(features: Features) -> Rows:
    """Let one thread read at a time: a file has one position."""
    lock, width = Lock(), math.prod(features.shape)

    def read(rows: slice) -> Array:
        with lock:
            block = features.take(range(rows.start, rows.stop))
        return np.asarray(block.reshape(-1, width), np.float32)

    return Rows(features.count, width, read, features.apart)


def kept(rows: Rows, make: Callable[[slice], NDArray[np.floating]], by: Workers) -> Rows:
    """Keep what is made of each block of rows (n, width), in float32.

    It is in memory, or in a temporary file: memory then does not grow with the rows, and to read a
    file that was just written takes little more time than to read memory. Raises OSError where the
    file finds no room.
    """
    if 4 * rows.count * rows.width <= HELD_BYTES:
        array = np.empty((rows.count, rows.width), np.float32)
        _each(array.__setitem__, rows, make, by)
        return Rows.of(array)
    file = _File(rows.width)
    _each(file.write, rows, make, by)
    return Rows(rows.count, rows.width, file.read)


def _each(
    put: Callable[[slice, Array], None],
    rows: Rows,
    make: Callable[[slice], NDArray[np.floating]],
    by: Workers,
) -> None:
    def work(where: slice) -> None:
        put(where, np.asarray(make(where), np.float32))

    for _ in by.each(work, rows.blocks()):
        pass


class _File:
    """Rows in a file that is gone when nobody reads it any more."""

    def __init__(self, width: int) -> None:
        self._width = width
        file = tempfile.TemporaryFile(prefix="pyflux-rows-", buffering=0)  # noqa: SIM115
        weakref.finalize(self, file.close)
        self._file = cast("BinaryIO", file)
        self._lock = Lock()  # a file has one position

    def write(self, where: slice, block: Array) -> None:
        with self._lock:
            self._file.seek(4 * self._width * where.start)
            write_all(self._file, block.data.cast("B"))

    def read(self, where: slice) -> Array:
        block = np.empty((where.stop - where.start, self._width), np.float32)
        with self._lock:
            self._file.seek(4 * self._width * where.start)
            self._file.readinto(block.data.cast("B"))  # type: ignore[attr-defined]
        return block
