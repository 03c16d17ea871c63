"""A batch spread over threads, each of which computes some of the images by itself.

PyTorch's own way shares each layer of the whole batch: all threads wait for each other at each of
its sixty layers, the longer the more decoding threads there are beside them. A few images a thread
need no waiting, and stay in its cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch
from torch import Tensor

# Images that pass through a thread together: more of them leave its cache between two layers.
CHUNK = 4


def spread(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return `function(x)`, computed some images at a time; x (N, …) on any device."""
    threads = torch.get_num_threads()
    # Where few of the threads would have an image, they share each layer after all.
    if x.device.type != "cpu" or threads == 1 or len(x) <= max(1, threads // 4):
        return function(x)
    size = min(CHUNK, -(-len(x) // threads))
    parts = list(_pool(threads).map(function, torch.split(x, size)))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(threads, "torch", initializer=_alone)
    everyone = Barrier(threads)
    list(pool.map(lambda _: everyone.wait(), range(threads)))  # so that all of them are started
    # The last of them has set the number for threads to come, too.
    torch.set_num_threads(threads)
    return pool


def _alone() -> None:
    """Let this thread compute its layers without the help of others."""
    torch.get_num_threads()  # asks once what is usual; later that would undo the next line
    torch.set_num_threads(1)
