"""Evaluation preprocessing: fit the photo into a square, normalise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyflux_transfer.data.decode import MAX_PIXELS, Box, Picture, Pixels, Source, decode_picture
from pyflux_transfer.networks.preprocessing import Fit, Preprocessing

Array = NDArray[np.float32]

RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def load(source: Source, preprocessing: Preprocessing, *, max_pixels: int = MAX_PIXELS) -> Array:
    """Decode and prepare one image: (3,crop,crop) float32, C-contiguous.

    A large JPEG is decoded at a fraction of its size (see `decode`): about three times faster, and
    within a level or two of 255 of the exact result on average, ten at hard edges. Raises
    ImageError.
    """
    return prepared(load_picture(source, preprocessing, max_pixels=max_pixels), preprocessing)


def load_pixels(
    source: Source, preprocessing: Preprocessing, *, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """Return what `load` normalises: (crop,crop,3) uint8, read-only. Raises ImageError."""
    picture = load_picture(source, preprocessing, max_pixels=max_pixels)
    return np.asarray(fitted(picture.image, preprocessing, picture.box))


def load_picture(
    source: Source, preprocessing: Preprocessing, *, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Decode one image at a size that suffices for `prepared`. Raises ImageError."""
    return decode_picture(
        source,
        max_pixels=max_pixels,
        background=preprocessing.background,
        shorter_side=preprocessing.resize,
    )


def prepared(picture: Picture, preprocessing: Preprocessing) -> Array:
    """Return what `load` returns, of what `load_picture` returned."""
    pixels = np.asarray(fitted(picture.image, preprocessing, picture.box))
    return normalise(pixels, preprocessing)


def prepare(image: Pixels, preprocessing: Preprocessing) -> Array:
    """Turn (H,W,3) uint8 of any size into (3,crop,crop) float32, C-contiguous."""
    return normalise(np.asarray(fitted(Image.fromarray(image), preprocessing)), preprocessing)


def fitted(
    image: Image.Image, preprocessing: Preprocessing, within: Box | None = None
) -> Image.Image:
    """Return `crop` × `crop` pixels of an RGB image, as the preprocessing's `fit` says.

    `within` is the box of the image to work on, by default all of it.
    """
    within = within or (0, 0, *image.size)
    return shown(image, _BOXES[preprocessing.fit](within, preprocessing), preprocessing, within)


def shown(image: Image.Image, box: Box, preprocessing: Preprocessing, within: Box) -> Image.Image:
    """Resample a box of the image to `crop` × `crop`; outside `within` lies the background.

    All happens in one pass: only what is seen is resampled, with the filter weights that resizing
    the whole would have.
    """
    side, filter_ = preprocessing.crop, RESAMPLING[preprocessing.interpolation]
    seen = (
        max(box[0], within[0]), max(box[1], within[1]),
        min(box[2], within[2]), min(box[3], within[3]),
    )  # fmt: skip
    if seen == box:
        return image.resize((side, side), filter_, box)
    left, right = _span(side, box[0], box[2], seen[0], seen[2])
    top, bottom = _span(side, box[1], box[3], seen[1], seen[3])
    canvas = Image.new("RGB", (side, side), preprocessing.background)
    canvas.paste(image.resize((right - left, bottom - top), filter_, seen), (left, top))
    return canvas


def _span(side: int, begin: float, end: float, first: float, last: float) -> tuple[int, int]:
    """Return the pixels, one at least, that first…last take when begin…end is `side` pixels."""
    scale = side / (end - begin)
    low = min(round((first - begin) * scale), side - 1)
    return low, max(round((last - begin) * scale), low + 1)


def field(within: Box, preprocessing: Preprocessing) -> Box:
    """Return the box that a fit can show of a photo: the photo, or the square that holds it."""
    if preprocessing.fit != "pad":
        return within
    x, y, right, bottom = within
    side = max(right - x, bottom - y)
    left, top = (x + right - side) / 2, (y + bottom - side) / 2
    return (left, top, left + side, top + side)


def _center(within: Box, preprocessing: Preprocessing) -> Box:
    """Return what stays when the shorter side is resized to `resize` and the centre is cut.

    Sizes and offsets are rounded as torchvision's Resize and CenterCrop do.
    """
    x, y, right, bottom = within
    width, height = right - x, bottom - y
    shorter, crop = min(width, height), preprocessing.crop
    new_width = int(preprocessing.resize * width / shorter)
    new_height = int(preprocessing.resize * height / shorter)
    left, top = round((new_width - crop) / 2), round((new_height - crop) / 2)
    return (
        x + width * left / new_width,
        y + height * top / new_height,
        x + width * (left + crop) / new_width,
        y + height * (top + crop) / new_height,
    )


# What of a photo each fit shows.
_BOXES: dict[Fit, Callable[[Box, Preprocessing], Box]] = {
    "crop": _center,
    "pad": field,
    "stretch": field,
}


def normalise(pixels: Pixels, preprocessing: Preprocessing) -> Array:
    """Return (value / 255 − mean) / std of (…,H,W,3) uint8: (…,3,H,W) float32, C-contiguous."""
    std = np.asarray(preprocessing.std)
    scale = (1 / (255 * std)).astype(np.float32)[:, None, None]
    shift = (-np.asarray(preprocessing.mean) / std).astype(np.float32)[:, None, None]
    planes = np.moveaxis(pixels, -1, -3)
    out = np.empty(planes.shape, np.float32)
    np.multiply(planes, scale, out=out)
    out += shift
    return out
