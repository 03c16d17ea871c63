"""How a picture has to be turned to stand upright, as EXIF or XMP says it."""

from __future__ import annotations

import re
import struct

from PIL import Image

TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, False, True, False),
    3: (Image.Transpose.ROTATE_180, False, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, False, True),
    5: (Image.Transpose.TRANSPOSE, True, False, False),
    6: (Image.Transpose.ROTATE_270, True, True, False),
    7: (Image.Transpose.TRANSVERSE, True, True, True),
    8: (Image.Transpose.ROTATE_90, True, False, True),
}
"""Orientation → what makes upright, and what that does to the axes: are they swapped, does the
picture then begin at the right, at the bottom?"""

_TAG = 0x0112
_AS_TEXT = "Raw profile type exif"  # as ImageMagick wrote it before PNG had a chunk for it
_LAYOUTS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # EXIF's kinds of whole numbers
_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([1-8])""")


def orientation(image: Image.Image) -> int:
    """Return EXIF's orientation of a loaded image, where it has none XMP's, else 1."""
    found = _in_exif(image.info.get("exif") or _in_text(image.info.get(_AS_TEXT)))
    if found is None and image.format != "TIFF":  # which Pillow has turned by either
        found = _in_xmp(image.info.get("xmp") or b"")
    return 1 if found is None else found


def _in_text(text: object) -> bytes:
    """Return EXIF that stands in a PNG's text: after its kind and length, in hexadecimal."""
    try:
        return bytes.fromhex("".join(str(text or "").split("\n")[3:]))
    except ValueError:
        return b""


def _in_exif(exif: bytes) -> int | None:
    """Return the tag of the first directory.

    Read by hand: Pillow's own reader warns about the quirks of many cameras.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
            if tag == _TAG and kind in _LAYOUTS:
                (value,) = struct.unpack_from(order + _LAYOUTS[kind], tiff, entry + 8)
                return int(value)
    except struct.error:
        pass
    return None


def _in_xmp(xmp: bytes | str) -> int | None:
    text = xmp.encode(errors="replace") if isinstance(xmp, str) else bytes(xmp)
    found = _XMP.search(text)
    return int(found[1]) if found else None
