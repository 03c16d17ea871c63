"""Pictures to compare by where no photos are given: as smooth and as grainy as photos."""

from __future__ import annotations

import numpy as np

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.export.running import Photo

_WAVES = 10


def pictures(crop: int, resize: int) -> list[Photo]:
    """Return pictures of sizes that go every way through the preprocessing, from fixed seeds."""
    sizes = (
        (480, 640), (640, 480), (crop, crop), (resize, resize), (900, 1200), (300, 1100),
        (1100, 300), (61, 1300), (37, 43), (9, 7), (crop + 1, crop), (1, 1),
    )  # fmt: skip
    return [
        Photo(f"a picture of {wide} × {high}", picture(high, wide, seed))
        for seed, (high, wide) in enumerate(sizes)
    ]


def picture(high: int, wide: int, seed: int = 0) -> Pixels:
    """Return (high, wide, 3) uint8: waves whose strength falls with their frequency, and grain."""
    rng = np.random.default_rng(seed)
    y, x = (np.linspace(0, 1, side, dtype=np.float32) for side in (high, wide))
    pixels = np.tile(rng.uniform(60, 190, 3).astype(np.float32), (high, wide, 1))
    for _ in range(_WAVES):
        rate = 2 ** rng.uniform(0, 7)
        turn, phase = rng.uniform(0, 2 * np.pi, 2)
        down, across = (2 * np.pi * rate * f(turn) for f in (np.cos, np.sin))
        wave = np.sin(np.add.outer(down * y + phase, across * x).astype(np.float32))
        pixels += wave[..., None] * rng.normal(0, 90 / rate**0.5, 3).astype(np.float32)
    pixels += 6 * rng.standard_normal(pixels.shape, np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)
