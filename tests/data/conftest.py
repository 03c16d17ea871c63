"""Folders of small images for the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image

from tests.data.pictures import picture

# The same examples in every run, and no time limit that a busy machine could miss.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of images: `photos(ants=3, bees=2)`, or under a subfolder of a root."""

    def make(root: str = "photos", **counts: int) -> Path:
        for label, (name, count) in enumerate(counts.items()):
            place = tmp_path / root / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = picture(24, 32, seed=1000 * label + i + len(root) * 31)
                Image.fromarray(pixels).save(place / f"{i}.jpg")
        return tmp_path / root

    return make
