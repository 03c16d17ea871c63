"""An image's numbers, the same whatever is computed beside it.

The reference is the image by itself on one thread: always the same kernels. Several images at a
time, or threads that share one, are faster, but on some processors other kernels with other sums.
So a convolution of that kind is tried on noise before it is used, and where one bit differs the
images take the reference's way, one by one.
"""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import Tensor

from pyflux_transfer.engines.torch.convolution import (
    Convolution,
    Geometry,
    channels_last,
    convolution,
    packed,
)
from pyflux_transfer.engines.torch.threads import alone

Shape = tuple[int, ...]


@cache
def keeps_bits(geometry: Geometry) -> bool:
    """Tell whether each image comes out as by itself on one thread, at every place in the batch.

    Depends on the geometry alone, so the weights are noise, too: real ones may hide a difference.
    Called by a thread that has `geometry.threads`.
    """
    image, add = noise(geometry.alone.x, 0), None
    expected = alone(partial(_convolved, geometry.alone, image, add))
    if geometry.adds:
        add = noise(tuple(expected.shape), 1)
        expected = alone(partial(_convolved, geometry.alone, image, add))
    found = _convolved(geometry, image, add)
    return torch.equal(found, expected.expand_as(found))


def one_by_one(reference: Convolution) -> Convolution:
    """Return a convolution of several images that gives each to the reference, on one thread."""

    @torch.inference_mode()
    def each(x: Tensor, add: Tensor | None) -> Tensor:
        rows = range(len(x))
        adds = [None if add is None else channels_last(add[i : i + 1]) for i in rows]
        done = [reference(channels_last(x[i : i + 1]), adds[i]) for i in rows]
        return channels_last(torch.cat(done))

    return lambda x, add: alone(partial(each, x, add))


@torch.inference_mode()
def _convolved(geometry: Geometry, image: Tensor, add: Tensor | None) -> Tensor:
    """Convolve as many copies of the image as the geometry has, with weights of noise."""
    count, dtype = geometry.x[0], geometry.dtype
    fan_in = geometry.weight[1] * geometry.weight[2] * geometry.weight[3]
    weight = noise(geometry.weight, 2) / fan_in**0.5
    convolve = convolution(geometry, packed(geometry, weight)[1], noise(geometry.weight[:1], 3))
    images = channels_last(image.to(dtype).expand(count, -1, -1, -1))
    adds = add if add is None else channels_last(add.to(dtype).expand(count, -1, -1, -1))
    return convolve(images, adds)


def noise(shape: Shape, seed: int) -> Tensor:
    """Return values of a normal distribution; a long stretch of them repeats."""
    count = torch.Size(shape).numel()
    return _stretch(seed).repeat(-(-count // len(_stretch(seed))))[:count].reshape(shape)


@cache
def _stretch(seed: int) -> Tensor:
    return torch.randn(100_003, generator=torch.Generator().manual_seed(seed))
