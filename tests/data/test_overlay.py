from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pyflux_transfer.data.overlay import data_uri, overlay, png, small_jpeg, small_png


def test_heat_shows_where_it_is() -> None:
    pixels = np.full((64, 64, 3), 90, np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 1
    found = overlay(pixels, heat)
    assert found.dtype == np.uint8
    distance = np.abs(found.astype(int) - 90).sum(axis=2)
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    assert (row // 16, column // 16) == (1, 2)
    assert distance[50:, :16].max() <= 3


def test_small_files_are_small() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (224, 300, 3)).astype(np.uint8)
    image = Image.open(io.BytesIO(small_png(pixels)))
    assert max(image.size) == 160
    assert len(small_png(pixels)) < 30_000
    assert Image.open(io.BytesIO(small_jpeg(pixels, 40))).size == (40, 30)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)
    assert data_uri(b"abc", "png") == "data:image/png;base64,YWJj"
