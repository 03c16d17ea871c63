"""Where a network looks: which parts of an image speak for a class.

Grad-CAM (Selvaraju et al. 2017) at the last feature map. Behind mean pooling and one Dense layer it
is the class activation map (Zhou et al. 2016): the gradient is the
layer's weight over the count of places, so none is computed. Of a vision transformer, the map is
that of the patches' tokens before the last block, as behind it only the class token counts (as in
Gildenblat's pytorch-grad-cam).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pyflux_transfer.engines.base import Labels, Network
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.shapes import UnitShapes, trace
from pyflux_transfer.networks.tensors import Array, Shape
from pyflux_transfer.networks.units import Unit

_POOLS = ("maxpool", "avgpool", "flatten", "dropout")


def last_map(
    units: Sequence[Unit], shape: Shape, traced: Sequence[UnitShapes] | None = None
) -> int:
    """Return the unit before which the last feature map lies, for images of this shape.

    Pooling behind it is coarser, and does not count. `traced` tells the units' shapes where the
    units do not. Raises InputError where there is no map.
    """
    rows = list(enumerate(zip(units, traced or trace(units, shape), strict=True)))
    for index, (unit, shapes) in reversed(rows):
        output = shapes.output
        if len(output) == 4 and output[2] * output[3] > 1 and unit.kind not in _POOLS:
            return index + 1
        if len(output) == 3:
            return index
    raise InputError("This network has no feature map to explain: images as small as this vanish.")


def method(units: Sequence[Unit], at: int) -> str:
    """Name the way a map is made of what comes to units[at:]."""
    return "class activation map" if _pooled_linear(units[at:]) else "Grad-CAM"


def needs_gradient(units: Sequence[Unit], shape: Shape) -> bool:
    """Tell whether an engine without gradients cannot make maps for images of this shape."""
    try:
        return not _pooled_linear(units[last_map(units, shape) :])
    except InputError:  # images without a map
        return False


def heat_maps(network: Network, x: Array, y: Labels, at: int) -> Array:
    """Return what speaks for the classes `y` (N,), place by place: (N,h,w) float32, not negative.

    `x` is what comes to units[at:], `at` that of `last_map`.
    """
    if _pooled_linear(network.units[at:]):
        last = network.units[-1].layers[0].name
        weight = network.state(len(network.units) - 1)[f"{last}.weight"]
        importance = weight[y] / np.float32(math.prod(x.shape[2:]))
        return _weighed(x, importance)
    gradient = network.logit_gradient(x, y, at)
    if x.ndim == 3:
        x, gradient = _patches(x), _patches(gradient)
    return _weighed(x, gradient.mean(axis=(2, 3)))


def scaled(maps: Array) -> Array:
    """Return maps (N,h,w) from 0 to 1, each by its own largest; without any it stays 0."""
    most = maps.max(axis=(1, 2), keepdims=True)
    return np.asarray(maps / np.where(most > 0, most, 1), np.float32)


def _weighed(x: Array, importance: Array) -> Array:
    spoken = np.einsum("nchw,nc->nhw", x, importance)
    return np.asarray(np.maximum(spoken, 0), np.float32)


def _patches(x: Array) -> Array:
    """Return tokens (N,T,C) without those ahead of the patches, as a map (N,C,h,w)."""
    side = math.isqrt(x.shape[1] - 1)
    patches = x[:, x.shape[1] - side * side :]
    return np.moveaxis(patches, 2, 1).reshape(len(x), x.shape[2], side, side)


def _pooled_linear(tail: Sequence[Unit]) -> bool:
    """Tell whether the tail is mean pooling over all places and one Dense layer."""
    kinds = [unit.kind for unit in tail if unit.kind != "dropout"]
    return kinds == ["avgpool", "flatten", "dense"] and tail[0].options.get("size") == 1 and (
        tail[-1].options.get("activation", "none") == "none"
    )  # fmt: skip
