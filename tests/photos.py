"""Folders of small photos whose class is their colour: what any network learns at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = {"blue": (40, 60, 190), "green": (50, 170, 70), "red": (190, 50, 60)}


def photo(label: str, seed: int = 0, side: int = 16) -> NDArray[np.uint8]:
    """Return (side,side,3) uint8: the class's colour, not quite, with noise."""
    rng = np.random.default_rng([seed, *label.encode()])
    base = np.array(COLOURS[label]) + rng.normal(0, 30, 3)
    return np.clip(base + rng.normal(0, 12, (side, side, 3)), 0, 255).astype(np.uint8)


def write(folder: Path, counts: dict[str, int], seed: int = 0, side: int = 16) -> Path:
    """Write `counts` photos of each class as PNG, a folder a class; return the folder."""
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = photo(label, seed + i, side)
            Image.fromarray(pixels).save(folder / label / f"{i:03}.png")
    return folder
