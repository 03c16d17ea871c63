"""Rows of numbers, read and worked through in blocks, by all cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, RLock
from typing import Any, TypeVar

import numpy as np

from pyflux_transfer.errors import InputError
from pyflux_transfer.installation.environment import cores
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.features import Features

T = TypeVar("T")

COPIED_BYTES = 2**28  # up to this size rows are copied to compute faster
BLOCK_ROWS = 256  # at least, so that products are large enough to be fast
BLOCK_NUMBERS = 2**22  # at most, of a block's rows times its widest side: 32 MiB in float64
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

    @property
    def small(self) -> bool:
        """Tell whether there is room for a copy."""
        return 4 * self.count * self.width <= COPIED_BYTES

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
