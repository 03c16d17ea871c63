from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pyflux_transfer.data.decode import decode
from pyflux_transfer.data.preprocess import RESAMPLING, load, prepare
from pyflux_transfer.networks.preprocessing import Preprocessing
from tests.data.pictures import Pixels, encoded, picture

SMALL = Preprocessing(resize=40, crop=32)


def plain(image: Pixels, p: Preprocessing) -> NDArray[np.float32]:
    """Resize the whole image, then cut: what torchvision's Resize, CenterCrop, Normalize do."""
    height, width = image.shape[:2]
    if width <= height:
        size = (p.resize, int(p.resize * height / width))
    else:
        size = (int(p.resize * width / height), p.resize)
    resized = Image.fromarray(image).resize(size, RESAMPLING[p.interpolation])
    left, top = round((size[0] - p.crop) / 2.0), round((size[1] - p.crop) / 2.0)
    cut = resized.crop((left, top, left + p.crop, top + p.crop))
    values = (np.asarray(cut, np.float64) / 255 - p.mean) / p.std
    return values.transpose(2, 0, 1).astype(np.float32)


def levels(difference: NDArray[np.float32], p: Preprocessing) -> NDArray[np.float64]:
    """Return differences of normalised values in levels of 0–255."""
    return np.abs(difference) * np.reshape(p.std, (3, 1, 1)) * 255


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width"), [(300, 400), (400, 301), (40, 40), (32, 57), (9, 13), (500, 41), (1, 200)]
)
def test_one_pass_equals_resize_then_cut(height: int, width: int, interpolation: str) -> None:
    p = Preprocessing(resize=40, crop=32, interpolation=interpolation)  # type: ignore[arg-type]
    image = picture(height, width)
    difference = levels(prepare(image, p) - plain(image, p), p)
    assert difference.max() < 1.01  # the two round at other places
    assert difference.mean() < 0.06


def test_an_image_of_the_right_size_is_only_normalised() -> None:
    p = Preprocessing(resize=32, crop=32, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    image = picture(32, 32)
    values = image.transpose(2, 0, 1) / 255
    expected = np.stack([values[0] * 2 - 1, values[1] * 4 - 1, values[2]])
    np.testing.assert_allclose(prepare(image, p), expected, atol=1e-6)


@given(height=st.integers(1, 80), width=st.integers(1, 80), crop=st.integers(1, 40))
def test_any_size_gives_the_shape_the_network_wants(height: int, width: int, crop: int) -> None:
    p = Preprocessing(resize=40, crop=crop)
    out = prepare(np.full((height, width, 3), 51, np.uint8), p)
    assert out.shape == (3, crop, crop)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    # One colour stays one colour, however the image is resized.
    expected = (0.2 - np.array(p.mean)) / p.std
    np.testing.assert_allclose(out, np.broadcast_to(expected[:, None, None], out.shape), atol=1e-5)


def test_load_is_decode_then_prepare() -> None:
    data = encoded(Image.fromarray(picture(300, 400)), "JPEG")
    scaled = decode(data, shorter_side=SMALL.resize)
    assert scaled.shape == (150, 200, 3)
    np.testing.assert_array_equal(load(data, SMALL), prepare(scaled, SMALL))


def test_load_lays_transparency_on_the_preprocessing_background() -> None:
    p = Preprocessing(resize=8, crop=8, mean=(0, 0, 0), std=(1, 1, 1), background=(255, 0, 51))
    out = load(encoded(Image.new("RGBA", (8, 8)), "PNG"), p)
    np.testing.assert_allclose(out[:, 0, 0], [1, 0, 0.2], atol=1e-6)


@pytest.mark.parametrize("factor", [4, 5, 8, 11])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_scaled_decoding_stays_near_the_exact_path(
    factor: int, interpolation: str, subsampling: int
) -> None:
    p = Preprocessing(resize=64, crop=56, interpolation=interpolation)  # type: ignore[arg-type]
    # Sizes that no scale divides, so that the last row and column are parts of a pixel.
    image = Image.fromarray(picture(64 * factor + 3, 80 * factor + 5, seed=factor))
    data = encoded(image, "JPEG", quality=90, subsampling=subsampling)
    difference = levels(load(data, p) - prepare(decode(data), p), p)
    assert 0 < difference.mean() < 0.5
    assert difference.max() < 10


def sample_photo(name: str) -> Path:
    sklearn = find_spec("sklearn")
    if sklearn is None or sklearn.origin is None:
        pytest.skip("scikit-learn brings the photos")
    return Path(sklearn.origin).parent / "datasets" / "images" / name


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", [106, 53, 26])  # decoded at 1/2, 1/4 and 1/8
def test_scaled_decoding_of_real_photos_stays_near_the_exact_path(
    name: str, interpolation: str, resize: int
) -> None:
    path = sample_photo(name)
    p = Preprocessing(resize, resize - 8, interpolation=interpolation)  # type: ignore[arg-type]
    difference = levels(load(path, p) - prepare(decode(path), p), p)
    assert 0 < difference.mean() < 1.5
    assert difference.max() < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_scaled_decoding_of_turned_photos_stays_near_the_exact_path(orientation: int) -> None:
    p = Preprocessing(resize=26, crop=18)
    tags = Image.Exif()
    tags[0x0112] = orientation
    with Image.open(sample_photo("china.jpg")) as photo:
        data = encoded(photo, "JPEG", quality=95, exif=tags)
    difference = levels(load(data, p) - prepare(decode(data), p), p)
    assert difference.mean() < 1.5
    assert difference.max() < 15
