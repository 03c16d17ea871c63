"""TIFFs that Pillow has no mode for, or reads wrongly: many bits, signs, floats, separate planes.

Of Pillow only the unpacking is used: strips and tiles are read as if they were 8-bit grey. What
their bytes mean, the tags say.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pyflux_transfer.data import tiff
from pyflux_transfer.data.levels import Pixels, Values, as_8_bits
from pyflux_transfer.data.tiff import Layout

_BLOCK_BYTES = 1 << 22  # that are unpacked at a time, where strips are shorter
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # by samples of colour


def image(layout: Layout, data: bytes) -> Image.Image:
    """Return a picture with 8 bits a sample; only for a layout without trouble."""
    width, height = layout.size
    planes = layout.samples if layout.separate else 1
    at_once = layout.kind != "f" and layout.bits <= 16  # white is known without a look at the rest
    plain = Values(layout.bits, layout.kind, False, layout.said.highest)
    form = "u1" if at_once else f"{layout.kind}{layout.bits // 8}"
    values = np.empty((height, width, planes, layout.samples // planes), form)
    for plane in range(planes):
        for top, block in _blocks(layout, data, plane, planes):
            found = as_8_bits(block, plain) if at_once else block
            values[top : top + len(block), :, plane] = found
    made = _joined(layout, values.reshape(height, width, layout.samples), plain)
    upright = Image.Exif()
    upright[tiff.ORIENTATION] = layout.one(tiff.ORIENTATION)
    made.info |= {"exif": upright.tobytes(), "icc_profile": layout.tags.get(tiff.PROFILE)}
    return made


def _joined(layout: Layout, values: NDArray[Any], plain: Values) -> Image.Image:
    """Return colours, and alpha where a sample is that, as an image."""

    def levels(part: NDArray[Any]) -> Pixels:
        found = part if part.dtype == np.uint8 else as_8_bits(part, plain)
        return np.ascontiguousarray(found)

    color = levels(values[..., : layout.colors])
    if layout.said.inverted:
        np.subtract(255, color, out=color)
    made = Image.frombytes(_MODES[layout.colors], layout.size, color.tobytes())
    clear = [i for i, what in enumerate(layout.extra) if what in (tiff.PREMULTIPLIED, tiff.ALPHA)]
    if not clear:
        return made
    alpha = Image.fromarray(levels(values[..., layout.colors + clear[0]]))
    joined = Image.merge("RGBA", [*made.convert("RGB").split(), alpha])
    if layout.extra[clear[0]] == tiff.ALPHA:
        return joined
    return Image.frombytes("RGBa", joined.size, joined.tobytes()).convert("RGBA")


def _blocks(
    layout: Layout, data: bytes, plane: int, planes: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the values (lines, W, samples) of one plane or of all, and the first line of each."""
    width, height = layout.size
    samples = layout.samples // planes
    if tiled := bool(layout.all(tiff.TILES)):
        across, down = layout.one(tiff.TILE_WIDTH, 0), layout.one(tiff.TILE_HEIGHT, 0)
    else:
        across, down = width, min(layout.one(tiff.STRIP_ROWS, height), height)
    columns, rows = -(-width // across), -(-height // down)
    parts = _parts(layout, data, tiled, columns * rows, plane)
    line = -(-across * samples * layout.bits // 8)  # bytes
    group = 1 if tiled else max(1, _BLOCK_BYTES // (line * down))
    for row in range(0, rows, group):
        top = row * down
        lines = columns * down if tiled else min(group * down, height - top)
        packed = _unpacked(
            layout, parts[columns * row : columns * (row + group)], lines, line, down
        )
        values = _values(layout, packed, (lines, across, samples))
        if tiled:
            values = values.reshape(columns, down, across, samples).swapaxes(0, 1)
            values = values.reshape(down, columns * across, samples)
        yield top, values[: height - top, :width]


def _parts(layout: Layout, data: bytes, tiled: bool, count: int, plane: int) -> list[bytes]:
    """Return the strips or tiles of a plane, as they are stored."""
    start_tag, size_tag = (
        (tiff.TILES, tiff.TILE_BYTES) if tiled else (tiff.STRIPS, tiff.STRIP_BYTES)
    )
    every = sorted({*map(int, layout.all(start_tag)), len(data)})
    which = slice(plane * count, (plane + 1) * count)
    starts = [int(start) for start in layout.all(start_tag)[which]]
    sizes = [int(size) for size in layout.all(size_tag)[which]]
    if not sizes:  # not told: up to the next
        sizes = [every[min(bisect_right(every, s), len(every) - 1)] - s for s in starts]
    if len(starts) != count or len(sizes) != count:
        raise OSError(f"it has {len(starts)} strips or tiles, of {count}")
    return [data[start : start + size] for start, size in zip(starts, sizes, strict=True)]


class _Packed(TiffImageFile):
    """Strips as an 8-bit grey picture: their size has been judged by what they are in truth."""

    def load_prepare(self) -> None:
        ImageFile.load_prepare(self)


def _unpacked(
    layout: Layout, parts: Sequence[bytes], lines: int, line: int, down: int
) -> NDArray[np.uint8]:
    """Return the bytes (lines, line) that parts of `down` lines hold."""
    count = len(parts)
    place = 8 + 2 + 12 * 10 + 4  # of the lists behind header and directory
    starts, begin = [], place + 8 * count
    for part in parts:
        starts.append(begin)
        begin += len(part)

    def entry(tag: int, *numbers: int) -> bytes:
        where = place if tag == tiff.STRIPS else place + 4 * count
        value = numbers[0] if len(numbers) == 1 else where
        return struct.pack("<HHII", tag, 4, len(numbers), value)

    lengths = [len(part) for part in parts]
    entries = [
        entry(tiff.WIDTH, line), entry(tiff.HEIGHT, lines), entry(tiff.BITS, 8),
        entry(tiff.PACKING, layout.one(tiff.PACKING)), entry(tiff.PHOTOMETRIC, 1),
        entry(tiff.FILL_ORDER, layout.one(tiff.FILL_ORDER)), entry(tiff.STRIPS, *starts),
        entry(tiff.SAMPLES, 1), entry(tiff.STRIP_ROWS, down), entry(tiff.STRIP_BYTES, *lengths),
    ]  # fmt: skip
    lists = struct.pack(f"<{2 * count}I", *starts, *lengths)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    return np.array(_Packed(io.BytesIO(b"".join([head, *entries, bytes(4), lists, *parts]))))


def _values(layout: Layout, packed: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Return bytes (lines, line) as values (lines, across, samples), without their predictor."""
    lines, across, samples = shape
    size, predictor, order = layout.bits // 8, layout.one(tiff.PREDICTOR), layout.order
    if layout.bits not in tiff.WHOLE:
        return _few_bits(packed, across * samples, layout.bits).reshape(shape)
    if predictor == tiff.FLOATS:  # bytes of a row by their weight, each less the one before
        packed = np.cumsum(packed.reshape(lines, -1, samples), axis=1, dtype=np.uint8)
        packed = np.ascontiguousarray(packed.reshape(lines, size, -1).swapaxes(1, 2))
        order = ">"
    form = "u" if predictor == tiff.DIFFERENCES else layout.kind
    values = packed.reshape(-1).view(f"{order}{form}{size}").astype(f"{form}{size}", copy=False)
    values = values.reshape(shape)
    if predictor == tiff.DIFFERENCES:
        values = np.cumsum(values, axis=1, dtype=values.dtype).view(f"{layout.kind}{size}")
    return values


def _few_bits(packed: NDArray[np.uint8], count: int, bits: int) -> NDArray[np.uint16]:
    """Return the first `count` numbers of at most 16 bits in each row."""
    rows = np.pad(packed, ((0, 0), (0, 2)))
    places = np.arange(count) * bits
    first, behind = places >> 3, (24 - bits - (places & 7)).astype(np.uint32)
    found = rows[:, first].astype(np.uint32) << 16
    found |= rows[:, first + 1].astype(np.uint32) << 8
    found |= rows[:, first + 2]
    return (found >> behind & (1 << bits) - 1).astype(np.uint16)
