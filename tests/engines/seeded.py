"""Weights and images from seeds: the same numbers in every process, whatever libraries it has.

Nothing but NumPy is imported, and its legacy generator, whose stream is fixed for good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Shape = tuple[int, ...]

_STRETCH = 30_011  # numbers that are drawn; bigger tensors repeat them


def noise(*shape: int, seed: int = 0) -> Array:
    """Normal noise."""
    return _drawn(shape, seed)


# The variance that kernels give to what passes, where the usual one grows till gates saturate: then
# rounding decides.
_GAINS = {"efficientnet_v2_s": 0.9}


def seeded(network: str, shapes: Mapping[str, Shape]) -> dict[str, Array]:
    """Weights by name, each from its name and shape alone, as unlike a fresh start as may be.

    Matrices and kernels keep the size of what passes through; factors (norms, scales, variances)
    lie around 1, what is added around 0.
    """
    gain = _GAINS.get(network, 1.4)
    return {name: _tensor(name, tuple(shape), gain) for name, shape in shapes.items()}


def _tensor(name: str, shape: Shape, gain: float) -> Array:
    values, leaf = _drawn(shape, crc32(name.encode())), name.rsplit(".", 1)[-1]
    if leaf.endswith("weight") and len(shape) > 1:
        return values * np.float32(math.sqrt(gain / math.prod(shape[1:])))
    if leaf == "running_var":
        # Below 1: gates halve what passes, and depthwise networks would forget their images.
        return np.float32(0.4) + np.float32(0.1) * np.abs(values)
    if leaf in ("weight", "gamma", "layer_scale"):
        return np.float32(0.8) + np.float32(0.1) * values
    return np.float32(0.1) * values


def _drawn(shape: Shape, seed: int) -> Array:
    count = math.prod(shape)
    values = np.random.RandomState(seed).standard_normal(min(count, _STRETCH))
    return np.ascontiguousarray(np.resize(values.astype(np.float32), count).reshape(shape))
