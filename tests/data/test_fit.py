"""What each fit shows of a photo, and that it is the same wherever photos are prepared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pyflux_transfer.data.augment import augmenter
from pyflux_transfer.data.decode import MAX_PIXELS, decode
from pyflux_transfer.data.decoders import Decoders, Job
from pyflux_transfer.data.preprocess import RESAMPLING, load, load_pixels, normalise, prepare
from pyflux_transfer.networks.preprocessing import FITS, Fit, Preprocessing
from tests.data.pictures import Pixels, encoded, picture

BACK = (10, 200, 90)


def small(fit: Fit, **changes: object) -> Preprocessing:
    values = {"resize": 40, "crop": 32, "background": BACK, "fit": fit, **changes}
    return Preprocessing(**values)  # type: ignore[arg-type]


def seen(image: Pixels, p: Preprocessing) -> Pixels:
    return load_pixels(image, p)


def turned(image: Image.Image, orientation: int, kind: str, **options: object) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return encoded(image, kind, exif=tags, **options)


# --- what is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(100, 400, (12, 20), (0, 32)), (400, 100, (0, 32), (12, 20)), (50, 50, (0, 32), (0, 32)),
     (3, 4, (4, 28), (0, 32))],
)  # fmt: skip
def test_pad_shows_the_whole_photo_in_the_middle_of_the_background(
    height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image = np.full((height, width, 3), 77, np.uint8)
    expected = np.full((32, 32, 3), BACK, np.uint8)
    expected[slice(*rows), slice(*columns)] = 77
    np.testing.assert_array_equal(seen(image, small("pad")), expected)


def test_pad_and_stretch_keep_what_crop_loses() -> None:
    image = np.zeros((60, 240, 3), np.uint8)
    image[:, :20] = image[:, -20:] = 255  # the ends of a wide photo
    assert seen(image, small("crop")).max() == 0
    for fit in ("pad", "stretch"):
        found = seen(image, small(fit, background=(0, 0, 0)))
        assert found[16, 0].min() > 240
        assert found[16, -1].min() > 240


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(90, 160), (300, 41), (9, 13), (32, 32)])
def test_stretch_is_resizing_to_the_square(height: int, width: int, interpolation: str) -> None:
    p = small("stretch", interpolation=interpolation)
    image = picture(height, width)
    expected = Image.fromarray(image).resize((32, 32), RESAMPLING[p.interpolation])
    np.testing.assert_array_equal(seen(image, p), np.asarray(expected))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(80, 160), (320, 40), (16, 8)])
def test_pad_is_resizing_the_longer_side(height: int, width: int, interpolation: str) -> None:
    p = small("pad", interpolation=interpolation)
    image = picture(height, width)
    scale = 32 / max(height, width)
    size = (round(width * scale), round(height * scale))
    expected = Image.new("RGB", (32, 32), BACK)
    inner = Image.fromarray(image).resize(size, RESAMPLING[p.interpolation])
    expected.paste(inner, ((32 - size[0]) // 2, (32 - size[1]) // 2))
    np.testing.assert_array_equal(seen(image, p), np.asarray(expected))


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    crop=st.integers(1, 40),
    fit=st.sampled_from(FITS),
    spec=st.sampled_from(["crop", "strong", "flip"]),
    seed=st.integers(0, 2**32),
)
def test_any_photo_gives_the_shape_the_network_wants(
    height: int, width: int, crop: int, fit: Fit, spec: str, seed: int
) -> None:
    p = small(fit, crop=crop)
    image = np.full((height, width, 3), 51, np.uint8)
    out = prepare(image, p)
    assert out.shape == (3, crop, crop)
    found = {tuple(color) for color in seen(image, p).reshape(-1, 3)}
    assert (51, 51, 51) in found
    assert found <= {(51, 51, 51), BACK}
    assert fit == "pad" or found == {(51, 51, 51)}
    augment = augmenter(spec, p)
    assert augment is not None
    assert augment(image, np.random.default_rng(seed)).shape == (3, crop, crop)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3000, 2)])
@pytest.mark.parametrize("fit", FITS)
def test_tiny_photos_are_shown(fit: Fit, size: tuple[int, int]) -> None:
    found = seen(np.full((*size, 3), 51, np.uint8), small(fit))
    assert (found == 51).all(axis=2).any()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_before_they_are_fitted(fit: Fit, orientation: int) -> None:
    data = turned(Image.fromarray(picture(40, 100)), orientation, "PNG")
    upright = decode(data)
    assert upright.shape[:2] == ((100, 40) if orientation > 4 else (40, 100))
    np.testing.assert_array_equal(load_pixels(data, small(fit)), seen(upright, small(fit)))


@pytest.mark.parametrize("fit", FITS)
def test_transparency_and_padding_are_of_one_background(fit: Fit) -> None:
    data = encoded(Image.new("RGBA", (90, 30)), "PNG")
    found = load_pixels(data, small(fit))
    np.testing.assert_array_equal(found, np.full((32, 32, 3), BACK, np.uint8))


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(323, 1029), (1029, 323), (645, 707)])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_scaled_decoding_stays_near_the_exact_path(
    fit: Fit, height: int, width: int, orientation: int
) -> None:
    image = Image.fromarray(picture(height, width))
    data = turned(image, orientation, "JPEG", quality=90)
    p = small(fit)
    assert decode(data, shorter_side=p.resize).size < decode(data).size
    difference = load_pixels(data, p).astype(int) - seen(decode(data), p)
    assert np.abs(difference).mean() < 1
    # A border between photo and background is one row or column of pixels.
    assert np.percentile(np.abs(difference), 99) < 10


# --- one result everywhere ------------------------------------------------------------------------


PHOTOS = {
    "wide.jpg": lambda: encoded(Image.fromarray(picture(210, 903)), "JPEG"),
    "tall.jpg": lambda: encoded(Image.fromarray(picture(903, 210)), "JPEG"),
    "tiny.png": lambda: encoded(Image.fromarray(picture(2, 3)), "PNG"),
    "turned.jpg": lambda: turned(Image.fromarray(picture(403, 601)), 6, "JPEG"),
    "clear.png": lambda: encoded(
        Image.fromarray(np.dstack([picture(70, 90), picture(70, 90, 1)[..., :1]])), "PNG"
    ),
}


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(1)
    yield made
    made.close()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("name", PHOTOS)
def test_the_service_s_pixels_are_the_library_s(fit: Fit, name: str, decoders: Decoders) -> None:
    data, p = PHOTOS[name](), small(fit)
    pixels, *_ = decoders.decode(data, Job.of(p, MAX_PIXELS))
    np.testing.assert_array_equal(normalise(pixels, p), load(data, p))
