"""Pictures made for the tests: smooth shapes with some noise, like photos, from a seed."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    """Return (H,W,3) uint8: soft waves, one hard-edged patch, sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
    phase = rng.uniform(0, 6, 3)
    values = 128 + 90 * np.sin(7 * x + phase) * np.cos(5 * y + phase)
    values[height // 4 : height // 2, width // 4 : width // 2] = rng.uniform(0, 255, 3)
    values += rng.normal(0, 4, (height, width, 1))
    return np.clip(values, 0, 255).astype(np.uint8)


def tiff(
    values: NDArray[Any], bits: int, photometric: int, kind: int = 1, samples: int = 1
) -> bytes:
    """Return an uncompressed little-endian TIFF of values as they are; Pillow writes few kinds."""
    data = np.ascontiguousarray(values).tobytes()
    height, width = values.shape[:2]
    start = 8 + len(data) + len(data) % 2
    many = start + 2 + 12 * 10 + 4  # where the numbers of more than one sample stand

    def entry(tag: int, layout: str, *numbers: int) -> bytes:
        size = {"H": 2, "I": 4}[layout] * len(numbers)
        head = struct.pack("<HHI", tag, {"H": 3, "I": 4}[layout], len(numbers))
        packed = struct.pack(f"<{len(numbers)}{layout}", *numbers)
        return head + (packed.ljust(4, b"\0") if size <= 4 else struct.pack("<I", many))

    entries = [
        entry(256, "I", width), entry(257, "I", height), entry(258, "H", *[bits] * samples),
        entry(259, "H", 1), entry(262, "H", photometric), entry(273, "I", 8),
        entry(277, "H", samples), entry(278, "I", height), entry(279, "I", len(data)),
        entry(339, "H", kind),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    whole = b"II*\0" + struct.pack("<I", start) + data
    return whole.ljust(start, b"\0") + directory + struct.pack(f"<{samples}H", *[bits] * samples)


def png(values: NDArray[Any], depth: int, color: int, *extra: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of values, packed already, with chunks beside: Pillow writes few of them."""
    rows = values.astype(">u2") if depth == 16 else values
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    width = values.shape[1] * (8 // depth if depth < 8 else 1)
    size = struct.pack(">IIBBBBB", width, len(values), depth, color, 0, 0, 0)
    chunks = [(b"IHDR", size), *extra, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
