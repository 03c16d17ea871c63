"""Kinds of files, and those that an optional package reads."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

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
