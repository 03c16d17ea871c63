"""TIFFs of values that Pillow has no mode for: three floats a pixel, 64 bits, zero as white …"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyflux_transfer.data.levels import Values, as_8_bits

_TYPES = {
    (1, 8): "u1", (1, 16): "u2", (1, 32): "u4", (2, 8): "i1", (2, 16): "i2", (2, 32): "i4",
    (3, 16): "f2", (3, 32): "f4", (3, 64): "f8",
}  # fmt: skip
_COLORS = {0: 1, 1: 1, 2: 3}  # photometric interpretation → samples of colour
_PREMULTIPLIED, _ALPHA = 1, 2
_STORED, _DEFLATED = 1, (8, 32946)


def read(data: bytes, check_size: Callable[[tuple[int, int]], None]) -> Image.Image | None:
    """Return an image with 8 bits a sample; None for a layout that is not read here either.

    `check_size` is asked before any pixel is touched.
    """
    tags, order = _tags(data)
    width, height = _one(tags, 256, 0), _one(tags, 257, 0)
    check_size((width, height))
    bits, samples = tags.get(258, (1,)), _one(tags, 277, 1)
    photometric, kind = _one(tags, 262, -1), _one(tags, 339, 1)
    typed = _TYPES.get((kind, bits[0]))
    colors = _COLORS.get(photometric, 0)
    extra = tags.get(338, ())
    known = typed is not None and len(set(bits)) == 1 and _one(tags, 317, 1) == 1
    if not known or 273 not in tags or not 0 < colors <= samples <= colors + 1:
        return None
    shape = (height, width, samples)
    raw = _pixels(data, tags, int(np.dtype(typed).itemsize * np.prod(shape)))
    if raw is None:
        return None
    values = np.frombuffer(raw, np.dtype(typed).newbyteorder(order))
    if _one(tags, 284, 1) == 2:
        values = np.moveaxis(values.reshape(samples, height, width), 0, -1)
    values = values.reshape(shape)
    said = Values(bits[0], {2: "i", 3: "f"}.get(kind, "u"), photometric == 0)  # type: ignore[arg-type]
    image = _joined(values, colors, _one({0: extra or (0,)}, 0, 0), said)
    upright = Image.Exif()
    upright[0x0112] = _one(tags, 274, 1)
    image.info |= {"exif": upright.tobytes(), "icc_profile": tags.get(34675)}
    return image


def _joined(values: NDArray[Any], colors: int, extra: int, said: Values) -> Image.Image:
    """Return colours, and alpha where the last sample is that, as an image."""
    color = as_8_bits(np.ascontiguousarray(values[..., :colors]), said)
    image = Image.fromarray(color[..., 0] if colors == 1 else color)
    if values.shape[-1] == colors or extra not in (_PREMULTIPLIED, _ALPHA):
        return image
    opaque = Values(said.bits, said.kind)
    alpha = Image.fromarray(as_8_bits(np.ascontiguousarray(values[..., -1]), opaque))
    joined = Image.merge("RGBA", [*image.convert("RGB").split(), alpha])
    if extra == _ALPHA:
        return joined
    return Image.frombytes("RGBa", joined.size, joined.tobytes()).convert("RGBA")


def _tags(data: bytes) -> tuple[dict[int, Any], Literal["<", ">"]]:
    """Return the tags of the first directory, numbers as tuples, and the byte order."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    stream = io.BytesIO(data)
    header = stream.read(16 if data[2:3] == b"+" or data[3:4] == b"+" else 8)
    directory = ImageFileDirectory_v2(header)
    stream.seek(directory.next)
    directory.load(stream)
    pairs = {tag: directory[tag] for tag in directory}
    tags = {
        tag: value if isinstance(value, (tuple, bytes, str)) else (value,)
        for tag, value in pairs.items()
    }
    return tags, "<" if data[:2] == b"II" else ">"


def _one(tags: dict[int, Any], tag: int, usual: int) -> int:
    value = tags.get(tag, (usual,))
    return int(value[0])


def _pixels(data: bytes, tags: dict[int, Any], size: int) -> bytes | None:
    """Return the strips one after another, None where they are packed in a way not known here."""
    packing = _one(tags, 259, 1)
    parts = []
    for start, length in zip(tags[273], tags.get(279, (size,)), strict=True):
        strip = data[int(start) : int(start) + int(length)]
        if packing in _DEFLATED:
            strip = zlib.decompressobj().decompress(strip, size)
        elif packing != _STORED:
            return None
        parts.append(strip)
        if sum(map(len, parts)) > size:
            break
    found = b"".join(parts)[:size]
    if len(found) < size:
        raise OSError(f"image file is truncated ({size - len(found)} bytes are missing)")
    return found
