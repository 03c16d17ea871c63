"""A batch spread over threads, each of which computes some of the images by itself.

PyTorch's own way shares each layer of the whole batch: all threads wait for each other at each of
its sixty layers, the longer the more decoding threads there are beside them. A few images a thread
need no waiting, and stay in its cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Lock, current_thread, main_thread
from typing import TypeVar

import torch
from torch import Tensor

from pyflux_transfer.engines.torch.allocator import memory_is_kept

T = TypeVar("T")
U = TypeVar("U")


def spread(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return `function(x)`, computed some images at a time; x (N, …) on any device.

    Several threads may call it at a time: the parts of all calls share the same threads.
    """
    threads = torch.get_num_threads()
    if x.device.type != "cpu":
        return function(x)
    with _under_way.added(len(x)) as images:
        # Where few of the threads would have an image, they share each layer after all. Only for
        # the main thread: OpenMP gives each that asks a team of its own, and as soon as there are
        # more threads than processors, none of them spins any more.
        shared = images <= max(1, threads // 4) and current_thread() is main_thread()
        if threads == 1 or shared:
            done = [function(part) for part in torch.split(x, sizes(len(x), 1))]
        else:
            parts = torch.split(x, sizes(len(x), threads, images - len(x)))
            done = list(_pool(threads).map(function, parts))
    return done[0] if len(done) == 1 else torch.cat(done)


def sizes(count: int, threads: int, others: int = 0) -> list[int]:
    """Split `count` images into powers of two, as large as leave every thread the same to do.

    Few different ones: each needs preparing. `others` are images that share the threads.
    """
    found: list[int] = []
    while left := count - sum(found):
        share = min(chunk(), -(-(left + others) // threads), left)
        size = 1 << (share.bit_length() - 1)
        found += [size] * min(left // size, threads)
    return found


def alone(function: Callable[[], T]) -> T:
    """Return `function()`, computed by one thread without the help of others."""
    if torch.get_num_threads() == 1:
        return function()
    return _pool(1).submit(function).result()


def shared(function: Callable[[U], T], parts: Sequence[U]) -> list[T]:
    """Return the function's results for the parts, each computed by a thread without the others."""
    threads = torch.get_num_threads()
    if threads == 1 or len(parts) == 1:
        return [function(part) for part in parts]
    return list(_pool(threads).map(function, parts))


def chunk() -> int:
    """Return how many images pass through a thread together at most.

    With fewer the weights are fetched more often, with more the results leave the thread's cache,
    and their memory must be had: more pay where it is kept.
    """
    return 8 if memory_is_kept() else 4


class _Images:
    """Counts the images of all calls that are under way."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = Lock()

    @contextmanager
    def added(self, count: int) -> Iterator[int]:
        """Add a call's images until its end; give the count with them."""
        with self._lock:
            self._count += count
            images = self._count
        try:
            yield images
        finally:
            with self._lock:
                self._count -= count


_under_way = _Images()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    usual = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "torch", initializer=_alone)
    everyone = Barrier(threads)
    list(pool.map(lambda _: everyone.wait(), range(threads)))  # so that all of them are started
    # The last of them has set the number for threads to come, too.
    torch.set_num_threads(usual)
    return pool


def _alone() -> None:
    """Let this thread compute its layers without the help of others."""
    torch.get_num_threads()  # asks once what is usual; later that would undo the next line
    torch.set_num_threads(1)
