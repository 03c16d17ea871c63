"""What EXIF and XMP say of a picture's orientation."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pyflux_transfer.data.decode import decode
from tests.data.pictures import encoded, picture

RGB = picture(20, 30)
PHOTO = Image.fromarray(RGB)
TURNED = np.rot90(RGB, -1)  # what a viewer shows of orientation 6


def exif(value: int, kind: int, order: str = "<") -> bytes:
    layout = {1: "B3x", 3: "H2x", 4: "I", 9: "i"}[kind]
    entry = struct.pack(f"{order}HHI{layout}", 0x0112, kind, 1, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1)
    return b"Exif\0\0" + head + entry + bytes(4)


def xmp(value: int, element: bool = False) -> bytes:
    inner = f">{value}</tiff:Orientation" if element else f'="{value}"'
    return f"<x:xmpmeta><rdf:Description tiff:Orientation{inner}/></x:xmpmeta>".encode()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4, 9])
def test_exif_may_hold_any_kind_of_whole_number(kind: int, order: str) -> None:
    found = decode(encoded(PHOTO, "PNG", exif=exif(6, kind, order)))
    np.testing.assert_array_equal(found, TURNED)


@pytest.mark.parametrize("element", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_xmp_turns_where_exif_is_silent(kind: str, element: bool) -> None:
    plain = decode(encoded(PHOTO, kind))
    found = decode(encoded(PHOTO, kind, xmp=xmp(6, element)))
    np.testing.assert_array_equal(found, np.rot90(plain, -1))
    both = decode(encoded(PHOTO, kind, xmp=xmp(6, element), exif=exif(1, 3)))
    np.testing.assert_array_equal(both, plain)


def test_exif_in_the_text_of_a_png_turns_it() -> None:
    tags = exif(6, 3)
    text = PngInfo()
    rows = "\n".join(tags.hex()[i : i + 72] for i in range(0, 2 * len(tags), 72))
    text.add_text("Raw profile type exif", f"\nexif\n{len(tags):8}\n{rows}\n", zip=True)
    np.testing.assert_array_equal(decode(encoded(PHOTO, "PNG", pnginfo=text)), TURNED)


def test_tiff_is_turned_once() -> None:
    found = decode(encoded(PHOTO, "TIFF", tiffinfo={274: 6, 700: xmp(6)}))
    np.testing.assert_array_equal(found, TURNED)
