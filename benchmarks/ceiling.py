"""The most FLOP/s that the libraries at hand reach on all cores: what no network can exceed.

One library's product is no ceiling: on processors that are not Intel's, MKL's takes several times
as long as oneDNN's convolution. So products and convolutions of several shapes are tried, and the
best counts. All cores compute at a time, each by itself and by its own thread's clock: what other
programs take does not lower the ceiling, what cores take from each other does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from threadpoolctl import threadpool_limits

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_SIDES = (1024, 2048)
# Images, channels in and out, side of an image, kernel.
_CONVOLUTIONS = ((4, 64, 64, 56, 3), (8, 256, 256, 14, 3), (8, 256, 1024, 14, 1),
                 (8, 512, 2048, 7, 1), (8, 768, 3072, 14, 1))  # fmt: skip


@dataclass(frozen=True)
class Ceiling:
    """FLOP/s of all cores, and what reached them."""

    flops: float
    by: str


Candidate = tuple[str, float, Callable[[], object]]  # name, operations, call


def ceiling(precision: str, *, seconds: float = 0.3) -> Ceiling:
    """Return the best of all; a multiply-add counts as two operations."""
    found, cores = [], len(os.sched_getaffinity(0))
    with threadpool_limits(1), ThreadPoolExecutor(cores, initializer=_alone) as pool:
        for name, operations, run in _candidates(precision):
            together = Barrier(cores)
            times = pool.map(lambda _, r=run, b=together: _shortest(r, b, seconds), range(cores))
            try:
                found.append(Ceiling(sum(operations / each for each in times), name))
            except RuntimeError:  # this library does not compute it here
                continue
    return max(found, key=lambda each: each.flops)


def _alone() -> None:
    """Let a thread compute without the help of others."""
    torch.get_num_threads()  # asks once what is usual; later that would undo the next line
    torch.set_num_threads(1)


@torch.inference_mode()
def _shortest(run: Callable[[], object], together: Barrier, seconds: float) -> float:
    """Return the shortest of the thread's own times while all threads compute."""
    together.wait()
    run()
    times: list[float] = []
    ends = time.monotonic() + seconds
    while len(times) < 2 or time.monotonic() < ends:
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return min(times)


def _candidates(precision: str) -> Iterator[Candidate]:
    """Yield what may be the fastest: NumPy's BLAS, PyTorch's, and oneDNN."""
    dtype = _DTYPES[precision]
    for side in _SIDES:
        x = torch.randn(side, side).to(dtype)
        if precision == "fp32":
            y = x.numpy()
            yield f"NumPy's product of {side}²", 2.0 * side**3, partial(np.matmul, y, y)
        yield f"PyTorch's product of {side}²", 2.0 * side**3, partial(torch.matmul, x, x)
    for images, channels, out, side, kernel in _CONVOLUTIONS:
        name = f"{kernel} × {kernel} convolution of {channels} to {out} channels"
        operations = 2.0 * images * channels * out * kernel**2 * side**2
        yield name, operations, _convolution(dtype, images, channels, out, side, kernel)


def _convolution(
    dtype: torch.dtype, images: int, channels: int, out: int, side: int, kernel: int
) -> Callable[[], Any]:
    """Return a convolution whose weight is laid out ahead, where there is oneDNN."""
    x = torch.randn(images, channels, side, side).to(dtype, memory_format=torch.channels_last)
    weight, bias = torch.randn(out, channels, kernel, kernel).to(dtype), torch.zeros(out).to(dtype)
    places = [kernel // 2] * 2
    try:
        weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, places, [1, 1], [1, 1], 1, x.shape
        )
    except (AttributeError, RuntimeError):  # no oneDNN, or not in this type
        return lambda: F.conv2d(x, weight, bias, padding=places)
    run = torch.ops.mkldnn._convolution_pointwise
    return lambda: run(x, weight, bias, places, [1, 1], [1, 1], 1, "none", [], "")
