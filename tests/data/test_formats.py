"""Kinds of files, and those that an optional package reads."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer.data import jxl
from pyflux_transfer.data.decode import decode
from pyflux_transfer.data.formats import kind_of
from pyflux_transfer.errors import ImageError
from tests.data.pictures import encoded, picture


def media(*brands: bytes) -> bytes:
    body = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (len(body) + 4).to_bytes(4, "big") + body + b"heicmore"


@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        ((b"avif", b"mif1"), "AVIF"),
        ((b"mif1", b"miaf", b"avif"), "AVIF"),
        ((b"heic", b"mif1"), "HEIC"),
        ((b"mif1", b"heic"), "HEIC"),
        ((b"msf1",), "HEIC"),
    ],
)
def test_brands_tell_the_kind(brands: tuple[bytes, ...], kind: str) -> None:
    assert kind_of(media(*brands)) == kind


def test_brands_of_films_are_no_image() -> None:
    with pytest.raises(ImageError, match="not an image"):
        kind_of(media(b"mp42", b"isom"))


def test_avif_of_any_major_brand_is_read() -> None:
    pytest.importorskip("PIL.AvifImagePlugin")
    data = encoded(Image.fromarray(picture(20, 30)), "AVIF")
    np.testing.assert_array_equal(decode(data[:8] + b"mif1" + data[12:]), decode(data))


def test_heic_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install 'pyflux-transfer\[heic\]'\. Or export it"):
        decode(media(b"heic"))


JXL = b"\xff\x0a" + bytes(50)


def test_jpeg_xl_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(ImageError, match=r"pip install 'pyflux-transfer\[jxl\]'\. Or export it"):
        decode(JXL)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        (((1, 1), (5, 2), (3, 1)), (24, 24)),  # small, of one side
        (((1, 1), (5, 2), (3, 0), (5, 4)), (40, 24)),
        (((1, 0), (2, 0), (9, 299), (3, 5)), (533, 300)),  # 16:9
        (((1, 0), (2, 1), (13, 5000), (3, 0), (2, 3), (30, 10**9)), (10**9 + 1, 5001)),
    ],
)
@pytest.mark.parametrize("box", [None, b"jxlc", b"jxlp"])
def test_jpeg_xl_states_its_size(
    fields: tuple[tuple[int, int], ...], size: tuple[int, int], box: bytes | None
) -> None:
    bits, place = 0, 0
    for count, value in fields:
        bits |= value << place
        place += count
    stream = b"\xff\x0a" + bits.to_bytes(20, "little")
    if box:
        body = box + (bytes(4) if box == b"jxlp" else b"") + stream
        stream = b"\0\0\0\x0cJXL \r\n\x87\n" + (len(body) + 4).to_bytes(4, "big") + body
    assert jxl.size(stream) == size


def test_a_jpeg_xl_bomb_is_refused_by_its_header() -> None:
    data = b"\xff\x0a" + (0 | 3 << 1 | 99_999 << 3 | 1 << 33).to_bytes(20, "little")
    with pytest.raises(ImageError, match=r"100000 × 100000 = .* more than the limit"):
        decode(data)


def test_jpeg_xl_is_read() -> None:
    plugin = pytest.importorskip("pillow_jxl.JpegXLImagePlugin")
    assert plugin
    pixels = picture(64, 96)
    data = encoded(Image.fromarray(pixels), "JXL", lossless=True)
    np.testing.assert_array_equal(decode(data), pixels)
    assert jxl.size(data) == (96, 64)


def test_heic_is_read() -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    pixels = picture(64, 96)
    tags = Image.Exif()
    tags[0x0112] = 6
    data = encoded(Image.fromarray(pixels), "HEIF", quality=95, exif=tags.tobytes())
    found = decode(data, shorter_side=16)
    assert np.abs(found.astype(int) - np.rot90(pixels, -1)).mean() < 4
    with pytest.raises(ImageError, match="more than the limit of 100"):
        decode(data, max_pixels=100)
