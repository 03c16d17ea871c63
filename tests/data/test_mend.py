"""PNGs with something amiss beside their pixels."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from pyflux_transfer.data.decode import decode
from pyflux_transfer.errors import ImageError
from tests.data.pictures import picture, png

RGB = picture(20, 30)
LONG = bytes(np.random.default_rng(0).integers(97, 105, 2_000_000, dtype=np.uint8))


@pytest.mark.parametrize(
    "extra",
    [
        (b"zTXt", b"prompt\0\0" + zlib.compress(LONG)),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
        (b"iCCP", b"big\0\0" + zlib.compress(bytes(2_000_000))),
    ],
)
def test_much_metadata_costs_no_image(extra: tuple[bytes, bytes]) -> None:
    np.testing.assert_array_equal(decode(png(RGB, 8, 2, extra)), RGB)


def test_damage_beside_the_pixels_costs_no_image() -> None:
    data = png(RGB, 8, 2, (b"tEXt", b"a\0b"), (b"gAMA", struct.pack(">I", 45455)))
    for name in (b"tEXt", b"gAMA"):
        place = data.index(name) + 5
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        np.testing.assert_array_equal(decode(damaged), RGB)


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT"])
def test_damaged_pixels_are_refused(name: bytes) -> None:
    data = bytearray(png(RGB, 8, 2, (b"zTXt", b"prompt\0\0" + zlib.compress(LONG))))
    data[data.index(name) + 8] ^= 4
    with pytest.raises(ImageError, match=r"damaged|more than the limit"):
        decode(bytes(data))
