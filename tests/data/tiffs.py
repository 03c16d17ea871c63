"""TIFFs of any layout, which Pillow writes few of: tiles, planes, predictors, orders of bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

STORED, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
DIFFERENCES, FLOATS = 2, 3


def tiff(
    values: NDArray[Any],
    photometric: int,
    *,
    order: str = "<",
    tile: tuple[int, int] | None = None,
    rows: int = 7,
    packing: int = STORED,
    predictor: int = 1,
    separate: bool = False,
    bits: int = 0,
    big: bool = False,
    **tags: Any,
) -> bytes:
    """Return a file of values (H, W, samples); `tile` is (width, height); `tags` are by "t258"."""
    height, width, samples = values.shape
    planes = np.split(values, samples, -1) if separate else [values]
    parts = [
        _PACKERS[packing](_coded(part, order, predictor, bits))
        for plane in planes
        for part in _cut(plane, tile, rows)
    ]
    where, size = (324, 325) if tile else (273, 279)
    entries: dict[int, tuple[int, ...]] = {
        256: (width,), 257: (height,), 258: (bits or 8 * values.itemsize,) * samples,
        259: (packing,), 262: (photometric,), 277: (samples,), 284: (2 if separate else 1,),
        317: (predictor,), 339: ({"u": 1, "i": 2, "f": 3}[values.dtype.kind],),
        size: tuple(map(len, parts)),
        **({322: (tile[0],), 323: (tile[1],)} if tile else {278: (rows,)}),
    }  # fmt: skip
    entries |= {int(name[1:]): given for name, given in tags.items()}
    start, starts = 16 if big else 8, []
    for part in parts:
        starts.append(start)
        start += len(part)
    entries[where] = tuple(starts)
    entries = {tag: entries[tag] for tag in sorted(entries) if entries[tag]}
    number, count = ("Q", "Q") if big else ("I", "H")
    wide, body, extra = struct.calcsize(number), b"", b""
    behind = start + struct.calcsize(f"<{count}") + len(entries) * (4 + 2 * wide) + wide
    for tag, many in entries.items():
        packed = struct.pack(f"{order}{len(many)}I", *many)
        if len(packed) > wide:
            packed, extra = struct.pack(order + number, behind + len(extra)), extra + packed
        body += struct.pack(f"{order}HH{number}", tag, 4, len(many)) + packed.ljust(wide, b"\0")
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(
        *((order + "HHHQ", 43, 8, 0, start) if big else (order + "HI", 42, start))
    )
    directory = struct.pack(order + count, len(entries)) + body + bytes(wide)
    return b"".join([head, *parts, directory, extra])


def _cut(plane: NDArray[Any], tile: tuple[int, int] | None, rows: int) -> Iterator[NDArray[Any]]:
    """Yield strips, or tiles that are filled up at the edges."""
    height, width, _ = plane.shape
    if tile is None:
        yield from (plane[top : top + rows] for top in range(0, height, rows))
        return
    across, down = tile
    filled = np.pad(plane, ((0, -height % down), (0, -width % across), (0, 0)))
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield filled[top : top + down, left : left + across]


def _coded(part: NDArray[Any], order: str, predictor: int, bits: int) -> bytes:
    lines, _, samples = part.shape
    size = part.itemsize
    if bits:
        row = part.reshape(lines, -1)
        each = row[..., None] >> np.arange(bits)[::-1] & 1
        return np.packbits(each.reshape(lines, -1).astype(np.uint8), axis=1).tobytes()
    if predictor == FLOATS:
        coded = np.ascontiguousarray(part.astype(f">f{size}")).view(np.uint8)
        coded = coded.reshape(lines, -1, size).swapaxes(1, 2).reshape(lines, -1, samples)
        return np.diff(coded, axis=1, prepend=np.zeros_like(coded[:, :1])).tobytes()
    if predictor == DIFFERENCES:
        part = np.ascontiguousarray(part).view(f"u{size}")
        part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1]))
    return part.astype(part.dtype.newbyteorder(order)).tobytes()


def _lzw(data: bytes) -> bytes:
    """Return what libtiff packs bytes to."""
    stream = io.BytesIO()
    Image.frombytes("L", (len(data), 1), data).save(stream, "TIFF", compression="tiff_lzw")
    stream.seek(0)
    written = TiffImagePlugin.TiffImageFile(stream).tag_v2
    start, size = written[273][0], written[279][0]
    return stream.getvalue()[start : start + size]


def _packbits(data: bytes) -> bytes:
    runs = [data[i : i + 128] for i in range(0, len(data), 128)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


_PACKERS: dict[int, Callable[[bytes], bytes]] = {
    STORED: bytes, LZW: _lzw, DEFLATE: zlib.compress, PACKBITS: _packbits,
}  # fmt: skip
