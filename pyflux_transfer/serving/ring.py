"""Shared memory between the web process and its workers: one slot an image.

The memory has no name in any file system: it is an open file descriptor, inherited by the workers,
and the kernel frees it with the last process, however that ends. (It also does not count against
the 64 MB that containers give /dev/shm.)
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.networks.tensors import Array

_PAGE = 4096


@dataclass(frozen=True)
class Layout:
    """How the memory is divided: `slots` images (crop,crop,3) uint8, answers (numbers,) float32."""

    slots: int
    crop: int
    numbers: int

    @property
    def _sizes(self) -> tuple[int, int, int]:
        pixels = 3 * self.crop * self.crop
        return (8 + 3 * self.slots, self.slots * pixels, self.slots * 4 * self.numbers)

    @property
    def offsets(self) -> tuple[int, int, int]:
        """Where the control block, the images and the answers begin, on page borders."""
        control, images, _ = (-(-size // _PAGE) * _PAGE for size in self._sizes)
        return 0, control, control + images

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return self.offsets[2] + self._sizes[2]


class Ring:
    """Views on the memory; a slot is written by one side at a time.

    images (slots,crop,crop,3) are uint8, answers (slots,numbers) float32. `abandoned` (slots,)
    uint8 marks images whose request no longer waits, so that no time is spent on them; `started`
    (slots,) uint8 marks those that the worker has begun to compute, so that its death tells which;
    `explain` (slots,) uint8 those whose heat map is wanted.
    """

    def __init__(self, descriptor: int, layout: Layout) -> None:
        if os.fstat(descriptor).st_size < layout.size:
            os.ftruncate(descriptor, layout.size)
        memory = mmap.mmap(descriptor, layout.size)
        control, images, answers = layout.offsets
        slots, side, numbers = layout.slots, layout.crop, layout.numbers
        self._coming: NDArray[np.int64] = np.ndarray((1,), np.int64, memory, control)
        self.abandoned: NDArray[np.uint8] = np.ndarray((slots,), np.uint8, memory, control + 8)
        self.started: NDArray[np.uint8] = np.ndarray(
            (slots,), np.uint8, memory, control + 8 + slots
        )
        self.explain: NDArray[np.uint8] = np.ndarray(
            (slots,), np.uint8, memory, control + 8 + 2 * slots
        )
        self.images: Pixels = np.ndarray((slots, side, side, 3), np.uint8, memory, images)
        self.answers: Array = np.ndarray((slots, numbers), np.float32, memory, answers)

    @property
    def coming(self) -> int:
        """Images that were accepted and are still being decoded: a batch may wait for them."""
        return int(self._coming[0])

    def expect(self, more: int) -> None:
        """Change the count of coming images (web process only)."""
        self._coming[0] += more
