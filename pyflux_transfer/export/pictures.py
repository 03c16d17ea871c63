"""Pictures to compare by where no photos are given: as smooth and as grainy as photos."""

from __future__ import annotations

import numpy as np

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.export.running import Photo

_WAVES = 24


def pictures(crop: int, resize: int) -> list[Photo]:
    """Return pictures of sizes that go every way through the preprocessing, from fixed seeds."""
    sizes = (
        (480, 640), (640, 480), (crop, crop), (resize, resize), (1200, 1600), (300, 1100),
        (1100, 300), (61, 1300), (37, 43), (9, 7), (crop + 1, crop), (1, 1),
    )  # fmt: skip
    return [
        Photo(f"a picture of {wide} × {high}", picture(high, wide, seed))
        for seed, (high, wide) in enumerate(sizes)
    ]


def picture(high: int, wide: int, seed: int = 0) -> Pixels:
    """Return (high, wide, 3) uint8: waves whose strength falls with their frequency, and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(0, 1, high)[:, None], np.linspace(0, 1, wide)[None]
    pixels = np.tile(rng.uniform(60, 190, 3), (high, wide, 1))
    for _ in range(_WAVES):
        rate = 2 ** rng.uniform(0, 7)
        turn, phase = rng.uniform(0, 2 * np.pi, 2)
        wave = np.sin(2 * np.pi * rate * (np.cos(turn) * y + np.sin(turn) * x) + phase)
        pixels += wave[..., None] * rng.normal(0, 90 / rate**0.5, 3)
    return np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
