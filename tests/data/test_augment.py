from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflux_transfer.data.augment import AUGMENTS, ROTATION_DEGREES, SETS, Augment, augmenter, names
from pyflux_transfer.data.preprocess import prepare
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.preprocessing import Fit, Preprocessing
from tests.data.pictures import Pixels, picture

P = Preprocessing(resize=40, crop=32)
IMAGE = picture(50, 60)


def made(spec: str) -> Augment:
    augment = augmenter(spec, P)
    assert augment is not None
    return augment


def levels(x: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Undo the normalisation: values of 0–255."""
    return (x * np.reshape(P.std, (3, 1, 1)) + np.reshape(P.mean, (3, 1, 1))) * 255


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        (None, ()),
        ("none", ()),
        ("", ()),
        ([], ()),
        ("light", ("crop", "flip")),
        ("strong", ("crop", "rotation", "flip", "color")),
        ("flip,crop", ("crop", "flip")),
        (["color", " flip "], ("flip", "color")),
        ("light,color", ("crop", "flip", "color")),
    ],
)
def test_a_spec_means_transforms_in_their_order(
    spec: str | list[str] | None, chosen: tuple[str, ...]
) -> None:
    assert names(spec) == chosen
    assert (augmenter(spec, P) is None) == (not chosen)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"Unknown augmentation 'rotatoin'. Did you mean 'rotat"):
        augmenter("flip,rotatoin", P)


def test_the_sets_name_known_transforms() -> None:
    assert set().union(*SETS.values()) == set(AUGMENTS)


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 2**32),
    chosen=st.sets(st.sampled_from(list(AUGMENTS)), min_size=1),
)
def test_any_image_and_any_mix_gives_the_shape_and_range_of_an_image(
    height: int, width: int, seed: int, chosen: set[str]
) -> None:
    image = picture(height, width, seed=seed)
    before = image.copy()
    augment = augmenter(sorted(chosen), P)
    assert augment is not None
    out = augment(image, np.random.default_rng(seed))
    assert out.shape == (3, 32, 32)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert levels(out).min() > -0.01
    assert levels(out).max() < 255.01
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(augment(image, np.random.default_rng(seed)), out)


@pytest.mark.parametrize("name", AUGMENTS)
def test_each_transform_varies(name: str) -> None:
    augment, rng = made(name), np.random.default_rng(0)
    seen = {augment(IMAGE, rng).tobytes() for _ in range(12)}
    assert len(seen) == (2 if name == "flip" else 12)


def test_flip_mirrors_half_of_the_time() -> None:
    augment, rng, plain = made("flip"), np.random.default_rng(0), prepare(IMAGE, P)
    mirrored = 0
    for _ in range(200):
        out = augment(IMAGE, rng)
        if np.array_equal(out, plain[..., ::-1]):
            mirrored += 1
        else:
            np.testing.assert_array_equal(out, plain)
    assert 70 < mirrored < 130


def ramp(height: int, width: int) -> Pixels:
    """Return an image whose red says the row and green the column, from 0 to 250."""
    y, x = np.mgrid[0 : 250 : height * 1j, 0 : 250 : width * 1j]
    return np.stack([y, x, np.full_like(x, 99)], axis=-1).round().astype(np.uint8)


def test_crop_shows_parts_of_stated_area_and_ratio() -> None:
    augment, rng = made("crop"), np.random.default_rng(0)
    image, areas, ratios = ramp(120, 120), [], []
    for _ in range(200):
        red, green, blue = levels(augment(image, rng))
        # One of 32 pixels is lost when reading the extent from the centres of the outer ones.
        height = (red[-1].mean() - red[0].mean()) / 250 * 32 / 31
        width = (green[:, -1].mean() - green[:, 0].mean()) / 250 * 32 / 31
        areas.append(height * width)
        ratios.append(width / height)
        assert np.abs(blue - 99).max() < 0.6
    assert 0.3 < min(areas) < 0.45
    assert 0.8 < max(areas) < 1.05
    assert 0.7 < min(ratios) < 0.85
    assert 1.18 < max(ratios) < 1.43


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_crop_varies_within_what_the_fit_shows(fit: Fit) -> None:
    p = Preprocessing(resize=40, crop=32, fit=fit, background=(0, 0, 0))
    augment, rng = augmenter("crop", p), np.random.default_rng(0)
    assert augment is not None
    image, parts, ratios, bars = ramp(50, 200), set(), [], []
    image[..., 2] = 255
    for _ in range(200):
        out = augment(image, rng)
        parts.add(out.tobytes())
        red, green, blue = levels(out)
        full = blue > 128
        bars.append(1 - full.any(axis=1).mean())
        assert full.any()
        # In the square that the fit makes, parts are about as wide as high.
        rows = np.flatnonzero(full.all(axis=1))
        across = (green[rows[0], -1] - green[rows[0], 0]) / 250
        down = (red[rows[-1], 5] - red[rows[0], 5]) / 250
        scale = 32 / (rows[-1] - rows[0]) * (0.25 if fit == "pad" else 1)
        ratios.append(across / (down * scale))
    assert len(parts) > 180  # the place of a bar is a whole number of pixels
    assert np.quantile(ratios, 0.02) > 0.6
    assert np.quantile(ratios, 0.98) < 1.6
    assert (max(bars) > 0.5) == (fit == "pad")


def test_rotation_turns_by_no_more_than_it_says_and_fills_with_the_mean() -> None:
    augment, rng = made("rotation"), np.random.default_rng(0)
    image, turns = ramp(40, 40), []
    for _ in range(100):
        out = augment(image, rng)
        red = levels(out)[0]
        turns.append(np.degrees(np.arctan2(red[16, 24] - red[16, 8], red[24, 16] - red[8, 16])))
    assert ROTATION_DEGREES - 4 < np.abs(turns).max() < ROTATION_DEGREES + 1.5
    assert min(turns) < -5
    assert max(turns) > 5
    corners = [np.abs(augment(image, rng)[:, 0, 0]).max() for _ in range(20)]
    assert min(corners) < 0.02  # 0 is the mean, after rounding to a level


def test_color_changes_colours_but_not_places() -> None:
    augment, rng = made("color"), np.random.default_rng(3)
    image = np.full((40, 40, 3), (60, 120, 180), np.uint8)
    image[:, 20:] = (150, 90, 30)
    for _ in range(20):
        out = levels(augment(image, rng))
        np.testing.assert_allclose(out[:, :, :14], out[:, :1, :1].repeat(32, 1).repeat(14, 2))
        assert 60 * 0.7 * 0.4 < out[:, 0, 0].mean() < 255
        assert np.abs(out[:, 0, 0] - out[:, 0, -1]).max() > 10
