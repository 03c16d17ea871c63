"""What a photo looks like in a few numbers and one small picture, taken while it is decoded."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pyflux_transfer.data.decode import Picture, Pixels, decode_picture
from pyflux_transfer.data.formats import HEADER_BYTES, kind_of, open_image

SMALL = 48  # pixels of the small picture, which is as wide as it is high
MEASURED = 192  # pixels of the shorter side at which sharpness is measured
BLACK_AND_WHITE = 4.0  # squared levels: what a flat photo varies by, whatever it shows
THUMBNAIL = 160  # pixels of the longer side of what a page shows
QUALITY = 72


@dataclass(frozen=True)
class Portrait:
    """A photo's size as its file says, its look in numbers, and a small picture of it.

    `brightness` is the mean and `contrast` the standard deviation of grey, both of 1. `sharpness`
    is the variance of the Laplacian over that of grey, at a fixed size.
    """

    width: int
    height: int
    small: Pixels  # (48, 48, 3) uint8
    brightness: float
    contrast: float
    sharpness: float


def portray(data: bytes, picture: Picture) -> Portrait:
    """Describe a photo by its file's bytes and what they were decoded to."""
    image = picture.image
    shorter = min(image.size)
    if shorter > MEASURED:
        size = (round(image.width * MEASURED / shorter), round(image.height * MEASURED / shorter))
        image = image.resize(size, Image.Resampling.BILINEAR, picture.box, reducing_gap=2.0)
    grey = np.asarray(image.convert("L"), np.float32)
    variance = float(grey.var())
    return Portrait(
        *_size(data),
        np.asarray(image.resize((SMALL, SMALL), Image.Resampling.BILINEAR)),
        float(grey.mean()) / 255, variance**0.5 / 255,
        _edges(grey) / (variance + BLACK_AND_WHITE),
    )  # fmt: skip


def thumbnail(data: bytes) -> str:
    """Return a small JPEG of an image as a data URI. Raises ImageError."""
    image = decode_picture(data, shorter_side=THUMBNAIL).image.copy()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _size(data: bytes) -> tuple[int, int]:
    kind = kind_of(data[:HEADER_BYTES])
    with open_image(kind, io.BytesIO(data)) as image:
        return image.size


def _edges(grey: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    """Return the variance of the Laplacian; 0 for what is too small to have one."""
    if min(grey.shape) < 3:
        return 0.0
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((4 * grey[1:-1, 1:-1] - around).var())
