"""Work done in threads ahead of the compute: in order, bounded, and stopped with its consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Labelled(Protocol):
    """What a batch is made from: a `Sample`, or what stands for one."""

    @property
    def label(self) -> int:
        """Index of the class."""


Example = TypeVar("Example", bound=Labelled)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Generator[Result, None, None]:
    """Yield `function(item)` in the items' order, computed by threads.

    At most `ahead` results (≥ 1) are under way or waiting. An exception surfaces where its result
    would have been. A consumer that stops leaves no thread behind: what has not begun is dropped.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    try:
        waiting: deque[Future[Result]] = deque(
            pool.submit(function, item) for item in islice(source, ahead)
        )
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(source, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def batches(
    load: Callable[[Example], Array], samples: Sequence[Example], size: int, *, workers: int
) -> Generator[tuple[Array, Labels], None, None]:
    """Yield images (N,3,H,W) float32, C-contiguous, and labels (N,) int64, N = `size` but the last.

    Each batch is an array of its own; images are loaded up to two batches ahead.
    """
    images = map_ahead(load, samples, workers=workers, ahead=max(2 * size, workers))
    with closing(images):
        for start in range(0, len(samples), size):
            chunk = samples[start : start + size]
            first = next(images)
            batch = np.empty((len(chunk), *first.shape), np.float32)
            batch[0] = first
            for slot, image in zip(batch[1:], images, strict=False):
                slot[:] = image
            yield batch, np.array([sample.label for sample in chunk], np.int64)
