from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from pyflux_transfer.insight.alignment import SIDE, Likeness, Pixels, likeness
from tests.data.pictures import picture


def drawn(seed: int) -> Image.Image:
    """Return a picture with fine detail that no other seed has."""
    rng = np.random.default_rng(seed)
    pixels = picture(120, 160, seed).astype(np.float32)
    for _ in range(40):
        y, x = rng.integers(0, 110), rng.integers(0, 150)
        pixels[y : y + rng.integers(3, 30), x : x + rng.integers(3, 30)] = rng.uniform(0, 255, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def small(image: Image.Image) -> Pixels:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def compared(*images: Image.Image) -> Likeness:
    pairs = np.array([[0, k] for k in range(1, len(images))])
    return likeness(np.stack([small(image) for image in images]), pairs)


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_agrees_wherever_it_has_detail(seed: int) -> None:
    image = drawn(seed)
    found = compared(
        image, image.resize((80, 60)), image.crop((9, 5, 152, 113)),
        ImageEnhance.Brightness(image).enhance(0.7), ImageOps.mirror(image),
        ImageOps.mirror(image.crop((0, 6, 150, 120))),
    )  # fmt: skip
    assert (found.detail > 0.7).all(), found.detail
    assert (found.colour > 0.9).all(), found.colour
    assert found.mirrored.tolist() == [False, False, False, True, True]


def test_other_pictures_do_not() -> None:
    found = compared(*(drawn(seed) for seed in range(12)))
    assert (found.detail < 0.5).all(), found.detail


def test_a_changed_part_shows() -> None:
    image, other = drawn(5), drawn(5)
    other.paste((200, 30, 30), (30, 20, 100, 60))
    found = compared(image, other)
    assert found.outline > 0.8
    assert found.detail < 0.5


def test_another_colour_shows_in_colours_alone() -> None:
    image = drawn(3)
    red, green, blue = image.split()
    found = compared(image, Image.merge("RGB", (blue, green, red)))
    assert found.colour < 0.8


def test_blank_pictures_have_nothing_that_could_agree() -> None:
    white, grey = (Image.new("RGB", (50, 50), (level,) * 3) for level in (255, 128))
    assert compared(white, white, grey).detail.tolist() == [-1, -1]


def test_no_pairs_are_no_trouble() -> None:
    found = likeness(np.zeros((2, SIDE, SIDE, 3), np.uint8), np.empty((0, 2), np.int64))
    assert found.detail.shape == (0,)
