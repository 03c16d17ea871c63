"""Pictures made for the tests: smooth shapes with some noise, like photos, from a seed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    """Return (H,W,3) uint8: soft waves, one hard-edged patch, sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
    phase = rng.uniform(0, 6, 3)
    values = 128 + 90 * np.sin(7 * x + phase) * np.cos(5 * y + phase)
    values[height // 4 : height // 2, width // 4 : width // 2] = rng.uniform(0, 255, 3)
    values += rng.normal(0, 4, (height, width, 1))
    return np.clip(values, 0, 255).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
