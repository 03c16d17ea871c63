"""Grey values of any kind become 8 bits as their file says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyflux_transfer.data.decode import decode
from pyflux_transfer.errors import ImageError
from tests.data.pictures import Pixels, png, tiff

GREY = np.linspace(0, 255, 600).round().astype(np.uint8).reshape(20, 30)
WIDE = GREY.astype(np.uint16) * 257
UNIT = (GREY / 255).astype(np.float32)
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, COLORS = 0, 1, 2


def close(found: Pixels, wanted: Pixels, levels: float = 0.6) -> None:
    np.testing.assert_array_equal(found[..., 0], found[..., 2])
    assert np.abs(found[..., 0].astype(int) - wanted).max() <= levels


@pytest.mark.parametrize(
    ("values", "bits", "kind"),
    [
        (WIDE, 16, UNSIGNED),
        ((WIDE // 2).astype(np.int16), 16, SIGNED),
        ((GREY // 2).astype(np.int8), 8, SIGNED),
        (WIDE.astype(np.uint32) * 65537, 32, UNSIGNED),
        (WIDE.astype(np.uint32), 32, UNSIGNED),
        (GREY.astype(np.uint32), 32, UNSIGNED),
        (GREY.astype(np.int32), 32, SIGNED),
        ((GREY.astype(np.int64) * (2**31 - 1) // 255).astype(np.int32), 32, SIGNED),
        (UNIT, 32, FLOAT),
        (UNIT * 255, 32, FLOAT),
        (UNIT * 65535, 32, FLOAT),
    ],
)
def test_values_are_scaled_as_the_file_says(values: NDArray[Any], bits: int, kind: int) -> None:
    close(decode(tiff(values, bits, BLACK_IS_ZERO, kind)), GREY, levels=2)


@pytest.mark.parametrize(
    ("values", "bits", "kind"), [(WIDE, 16, UNSIGNED), (UNIT, 32, FLOAT), (GREY, 8, UNSIGNED)]
)
def test_zero_is_white_where_the_file_says_so(values: NDArray[Any], bits: int, kind: int) -> None:
    close(decode(tiff(values, bits, WHITE_IS_ZERO, kind)), 255 - GREY)


RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1)


@pytest.mark.parametrize(
    ("values", "bits", "kind"),
    [
        ((RGB / 255).astype(np.float32), 32, FLOAT),
        ((RGB / 255).astype(np.float64), 64, FLOAT),
        (RGB.astype(np.uint32), 32, UNSIGNED),
        (RGB.astype(np.int16) * 128, 16, SIGNED),
    ],
)
def test_colours_that_pillow_cannot_hold_are_read(
    values: NDArray[Any], bits: int, kind: int
) -> None:
    found = decode(tiff(values, bits, COLORS, kind, samples=3))
    assert np.abs(found.astype(int) - RGB).max() <= 2


@pytest.mark.parametrize(
    ("values", "bits", "kind"),
    [(UNIT.astype(np.float64), 64, FLOAT), (WIDE.astype(np.uint32) * 65537, 32, UNSIGNED)],
)
@pytest.mark.parametrize("zero", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_grey_that_pillow_cannot_hold_is_read(
    values: NDArray[Any], bits: int, kind: int, zero: int
) -> None:
    wanted = GREY if zero == BLACK_IS_ZERO else 255 - GREY
    close(decode(tiff(values, bits, zero, kind)), wanted, levels=1)


def test_kinds_that_pillow_cannot_hold_are_limited_like_any() -> None:
    data = tiff((RGB / 255).astype(np.float32), 32, COLORS, FLOAT, samples=3)
    with pytest.raises(ImageError, match="30 × 20 = 600 pixels, more than the limit of 599"):
        decode(data, max_pixels=599)


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_a_little_more_than_white_is_white(white: float) -> None:
    values = UNIT * white
    values[0, 0], values[0, 1], values[0, 2] = 1.2 * white, -0.1 * white, np.inf
    wanted = GREY.copy()
    wanted[0, :3] = 255, 0, 255
    close(decode(tiff(values, 32, BLACK_IS_ZERO, FLOAT)), wanted)


def test_12_bits_are_scaled_by_12_bits() -> None:
    values = WIDE.ravel() >> 4
    first, second = values[::2], values[1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1)
    data = bytearray(tiff(np.zeros((20, 45), np.uint8), 12, BLACK_IS_ZERO))
    data[8 : 8 + 900] = packed.astype(np.uint8).tobytes()
    data = data.replace(b"\x00\x01\x04\0\x01\0\0\0\x2d\0", b"\x00\x01\x04\0\x01\0\0\0\x1e\0")
    close(decode(bytes(data)), GREY, levels=1)


@pytest.mark.parametrize("clear", [0, 100])
def test_16_bits_of_grey_may_have_a_transparent_value(clear: int) -> None:
    data = png(WIDE, 16, 0, (b"tRNS", (257 * clear).to_bytes(2, "big")))
    wanted = np.where(clear == GREY, 9, GREY)
    np.testing.assert_array_equal(decode(data, background=(9, 9, 9))[..., 1], wanted)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_few_bits_of_grey_may_have_a_transparent_value(depth: int) -> None:
    top = 2**depth - 1
    values = np.arange(16) % (top + 1)
    packed = np.zeros((1, 16 * depth // 8), np.uint8)
    for i, value in enumerate(values):
        packed[0, i * depth // 8] |= value << (8 - depth - i * depth % 8)
    data = png(packed, depth, 0, (b"tRNS", (1).to_bytes(2, "big")))
    wanted = np.where(values == 1, 7, values * 255 // top)
    np.testing.assert_array_equal(decode(data, background=(7, 7, 7))[0, :, 0], wanted)


def test_16_bits_of_colour_may_have_a_transparent_value_and_all_bits_count() -> None:
    values = np.random.default_rng(0).integers(0, 3, (20, 30, 3), np.uint16) * 256
    values += np.random.default_rng(1).integers(0, 2, values.shape, np.uint16)
    clear = values[3, 4]
    data = png(values, 16, 2, (b"tRNS", clear.astype(">u2").tobytes()))
    hit = (values == clear).all(-1)
    assert 0 < hit.sum() < (values >> 8 == clear >> 8).all(-1).sum()
    wanted = np.where(hit[..., None], np.uint8([9, 99, 9]), (values >> 8).astype(np.uint8))
    np.testing.assert_array_equal(decode(data, background=(9, 99, 9)), wanted)
