"""How learnt positions of one grid serve another: bicubic interpolation, a matrix for each axis."""

from __future__ import annotations

import numpy as np

from pyflux_transfer.networks.tensors import Array

_A = -0.75  # PyTorch's cubic kernel (Keys 1981)


def resampling(side: int, count: int, *, offset: float = 0.0, aligned: bool = False) -> Array:
    """Return the matrix (count, side) that takes `side` places to `count`.

    `aligned` maps the outermost places onto each other, as torchvision's `interpolate_embeddings`
    does. Otherwise the step is side / (count + offset), with DINOv2's offset of 0.1
    (dinov2/models/vision_transformer.py). Places outside the grid count as those at its edge.
    """
    places = np.arange(count)
    if aligned:
        source = places * ((side - 1) / max(count - 1, 1))
    else:
        source = (places + 0.5) * (side / (count + offset)) - 0.5
    below = np.floor(source)
    matrix = np.zeros((count, side))
    for tap in range(-1, 3):
        weight = _cubic(np.abs(source - below - tap))
        np.add.at(matrix, (places, np.clip(below + tap, 0, side - 1).astype(int)), weight)
    return matrix.astype(np.float32)


def _cubic(distance: Array) -> Array:
    near = ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
    far = ((_A * distance - 5 * _A) * distance + 8 * _A) * distance - 4 * _A
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
