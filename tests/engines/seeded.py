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


def seeded(shapes: Mapping[str, Shape]) -> dict[str, Array]:
    """Weights by name, each from its name and shape alone, as unlike a fresh start as may be.

    Matrices and kernels keep the size of what passes through; factors (norms, scales, variances)
    lie around 1, what is added around 0.
    """
    return {name: _tensor(name, tuple(shape)) for name, shape in shapes.items()}


def _tensor(name: str, shape: Shape) -> Array:
    values, leaf = _drawn(shape, crc32(name.encode())), name.rsplit(".", 1)[-1]
    if leaf.endswith("weight") and len(shape) > 1:
        return values * np.float32(math.sqrt(1.4 / math.prod(shape[1:])))
    if leaf == "running_var":
        return np.float32(0.8) + np.float32(0.2) * np.abs(values)
    if leaf in ("weight", "gamma", "layer_scale"):
        return np.float32(0.8) + np.float32(0.1) * values
    return np.float32(0.1) * values


def _drawn(shape: Shape, seed: int) -> Array:
    count = math.prod(shape)
    values = np.random.RandomState(seed).standard_normal(min(count, _STRETCH))
    return np.ascontiguousarray(np.resize(values.astype(np.float32), count).reshape(shape))
