"""Colours by their profile."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from pyflux_transfer.data.decode import decode
from tests.data.pictures import encoded, picture

PHOTO = Image.fromarray((picture(40, 60) * 0.7 + 30).astype(np.uint8))
SRGB = ImageCms.createProfile("sRGB")
STANDARD = ImageCms.ImageCmsProfile(SRGB).tobytes()


def number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def profile(space: bytes, gamma: float, **columns: tuple[float, float, float]) -> bytes:
    """Return a profile of one tone curve and, for RGB, the XYZ of its primaries."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + b"".join(map(number, (0.9642, 1, 0.8249)))
    tags = [(b"wtpt", white)]
    tags += [(f"{c}XYZ".encode(), b"XYZ " + bytes(4) + b"".join(map(number, xyz)))
             for c, xyz in columns.items()]  # fmt: skip
    tags += [(f"{c}TRC".encode(), curve) for c in columns or "k"]
    place, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags:
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", 0, b"none", 0x02100000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(number, (0.9642, 1, 0.8249)))
    whole = head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


# Adobe RGB (1998), adapted to D50.
ADOBE = profile(
    b"RGB ", 2.2, r=(0.6097, 0.3111, 0.0195), g=(0.2053, 0.6257, 0.0609), b=(0.1492, 0.0632, 0.7446)
)
DARK = profile(b"GRAY", 1.0)


def seen(image: Image.Image, given: bytes) -> Any:
    return np.asarray(ImageCms.profileToProfile(image, io.BytesIO(given), SRGB, outputMode="RGB"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colours_are_converted_to_srgb(kind: str) -> None:
    found = decode(encoded(PHOTO, kind, icc_profile=ADOBE))
    np.testing.assert_array_equal(found, seen(PHOTO, ADOBE))
    assert np.abs(found.astype(int) - np.asarray(PHOTO)).max() > 8


def test_a_grey_profile_is_heeded() -> None:
    grey = PHOTO.convert("L")
    found = decode(encoded(grey, "PNG", icc_profile=DARK))
    np.testing.assert_array_equal(found, seen(grey, DARK))
    assert found.mean() > np.asarray(grey).mean() + 20


def test_colours_below_transparency_are_converted() -> None:
    clear = PHOTO.convert("RGBA")
    clear.putalpha(Image.new("L", PHOTO.size, 255))
    found = decode(encoded(clear, "PNG", icc_profile=ADOBE))
    np.testing.assert_array_equal(found, seen(PHOTO, ADOBE))


def test_grey_below_transparency_is_converted() -> None:
    grey = PHOTO.convert("L")
    clear = Image.merge("LA", [grey, Image.new("L", PHOTO.size, 255)])
    found = decode(encoded(clear, "PNG", icc_profile=DARK))
    np.testing.assert_array_equal(found, seen(grey, DARK))


def test_srgb_changes_no_bit() -> None:
    plain = decode(encoded(PHOTO, "JPEG"))
    np.testing.assert_array_equal(decode(encoded(PHOTO, "JPEG", icc_profile=STANDARD)), plain)


@pytest.mark.parametrize("given", [b"", b"no profile", ADOBE[:200], DARK, bytes(2000)])
def test_a_profile_that_cannot_be_used_changes_no_bit(given: bytes) -> None:
    plain = decode(encoded(PHOTO, "PNG"))
    np.testing.assert_array_equal(decode(encoded(PHOTO, "PNG", icc_profile=given)), plain)
