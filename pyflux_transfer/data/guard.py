"""What a picture's header may promise: told before anything is decoded, for every use alike.

Pixels alone bound neither time nor memory: a progressive JPEG may hold 100,000 passes over them, a
TIFF may be cut into tiles larger than itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import IO, Any

from PIL import Image

from pyflux_transfer.errors import ImageError

# Is told the bytes that decoding takes.
Admit = Callable[[int], None]
Size = tuple[int, int]

MAX_SIDE = 65_535  # JPEG's own limit
MAX_ASPECT = 1000  # the longer side to the shorter
# Encoders write about ten scans; each costs a pass over all pixels, however little it holds.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 1_500_000_000
MAX_TILE_SIDE = 2048  # where the image is smaller
MAX_PAGES = 65_535

# Bytes a pixel while an image is decoded and laid out as RGB: measured with Pillow, rounded up.
_MODE_BYTES = {"L": 10, "RGB": 10, "CMYK": 14, "YCbCr": 14, "RGBA": 18, "P": 18, "PA": 18, "LA": 18}
_OTHER_MODE = 26
# Bytes a pixel of the file, before any reduction, that the format's own library holds.
_FORMAT_BYTES = {"TIFF": 8, "WEBP": 8, "AVIF": 12, "GIF": 4}
_PROGRESSIVE_BYTES = 8
# From here on decoding is worth a process of its own, which costs a few milliseconds.
HEAVY_BYTES = 300 << 20

_CHUNK = 1 << 20


def check(image: Image.Image, full: Size, stream: IO[bytes]) -> int:
    """Return the bytes that decoding an opened image takes, an estimate that is not exceeded.

    `full` is its size before any reduction. Raises ImageError, with the numbers, where the header
    cannot be right.
    """
    _check_sides(full)
    progressive = image.format == "JPEG" and bool(image.info.get("progressive"))
    if image.format == "TIFF":
        _check_parts(image.tag_v2, image.size, stream)  # type: ignore[attr-defined]
    if progressive:
        _check_scans(full, stream)
    width, height = image.size
    file_bytes = _PROGRESSIVE_BYTES if progressive else _FORMAT_BYTES.get(image.format or "", 0)
    mode = "RGBA" if "transparency" in image.info and image.mode in ("L", "RGB") else image.mode
    pixel_bytes = _MODE_BYTES.get(mode, _OTHER_MODE) + 8 * ("low bytes" in image.info)
    return width * height * pixel_bytes + full[0] * full[1] * file_bytes


def check_tiff(tags: Any, size: Size, stream: IO[bytes]) -> None:
    """Check what a TIFF's directory promises. Raises ImageError as `check` does."""
    _check_sides(size)
    _check_parts(tags, size, stream)


def _check_sides(size: Size) -> None:
    longer, shorter = max(size), min(size)
    if longer > MAX_SIDE:
        raise ImageError(f"a side of it has {longer:,} pixels; at most {MAX_SIDE:,} are taken.")
    if longer > MAX_ASPECT * shorter:
        raise ImageError(
            f"its sides are as {longer:,} to {shorter:,}; at most {MAX_ASPECT} to 1 is taken."
        )


def _check_scans(full: Size, stream: IO[bytes]) -> None:
    scans = _count(stream, b"\xff\xda")
    if scans > MAX_SCANS or scans * full[0] * full[1] > MAX_SCANNED_PIXELS:
        raise ImageError(
            f"it is stored in {scans:,} passes over its pixels, far more than any camera or "
            "program writes. Save it again."
        )


def _count(stream: IO[bytes], marker: bytes) -> int:
    """Count a marker of two bytes; in a JPEG's data it cannot stand by chance."""
    place, found, last = stream.tell(), 0, b""
    stream.seek(0)
    while block := stream.read(_CHUNK):
        found += (last + block).count(marker)
        last = block[-1:]
    stream.seek(place)
    return found


def _check_parts(tags: Any, size: Size, stream: IO[bytes]) -> None:
    for name, tag, side in (("wide", 322, size[0]), ("high", 323, size[1])):
        tile = tags.get(tag, 0)
        if not isinstance(tile, int) or tile > max(MAX_TILE_SIDE, side + 16):
            raise ImageError(
                f"its tiles are {tile} pixels {name}, and the image is {side}: it is damaged."
            )
    place = stream.tell()
    length = stream.seek(0, 2)
    for tag in (279, 325):
        counts = tags.get(tag, ())
        total = sum(counts) if isinstance(counts, tuple) else int(counts)
        if total > 2 * length:
            raise ImageError(
                f"its parts have {total:,} bytes together, and the file {length:,}: it is damaged."
            )
    _check_pages(stream)
    stream.seek(place)


def _check_pages(stream: IO[bytes]) -> None:
    """Refuse a TIFF whose directories, each of which names the next, run in a circle."""
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", head, 2)[0] == 43
    number, count_form, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    size, count_size = struct.calcsize(number), struct.calcsize(f"<{count_form}")
    seen: set[int] = set()
    place = struct.unpack_from(f"{order}{number}", head, 8 if big else 4)[0]
    while place:
        if place in seen or len(seen) == MAX_PAGES:
            raise ImageError("its directories run in a circle: it is damaged.")
        seen.add(place)
        stream.seek(place)
        raw = stream.read(count_size)
        if len(raw) < count_size:
            return
        count = struct.unpack(f"{order}{count_form}", raw)[0]
        stream.seek(place + count_size + entry * count)
        raw = stream.read(size)
        if len(raw) < size:
            return
        place = struct.unpack(f"{order}{number}", raw)[0]
