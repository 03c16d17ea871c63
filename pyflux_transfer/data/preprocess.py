"""Evaluation preprocessing: resize the shorter side, cut the centre, normalise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyflux_transfer.catalog import Preprocessing
from pyflux_transfer.data.decode import MAX_PIXELS, Pixels, Source, decode_rgb

Array = NDArray[np.float32]

RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def load(source: Source, preprocessing: Preprocessing, *, max_pixels: int = MAX_PIXELS) -> Array:
    """Decode and prepare one image: (3,crop,crop) float32, C-contiguous.

    A large JPEG is decoded at a fraction of its size (see `decode`), which is three times faster
    and moves pixels by less than the weights can tell. Raises ImageError.
    """
    image = decode_rgb(
        source,
        max_pixels=max_pixels,
        background=preprocessing.background,
        shorter_side=preprocessing.resize,
    )
    return normalise(center(image, preprocessing), preprocessing)


def prepare(image: Pixels, preprocessing: Preprocessing) -> Array:
    """Turn (H,W,3) uint8 of any size into (3,crop,crop) float32, C-contiguous."""
    return normalise(center(Image.fromarray(image), preprocessing), preprocessing)


def center(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resize the shorter side to `resize` and cut the centre `crop` × `crop`.

    Sizes and offsets are rounded as torchvision's Resize and CenterCrop do. Both happen in one
    pass: only the box that survives the cut is resampled, with the same filter weights.
    """
    width, height = image.size
    shorter, crop = min(width, height), preprocessing.crop
    new_width = preprocessing.resize * width // shorter
    new_height = preprocessing.resize * height // shorter
    left, top = round((new_width - crop) / 2), round((new_height - crop) / 2)
    box = (
        width * left / new_width,
        height * top / new_height,
        width * (left + crop) / new_width,
        height * (top + crop) / new_height,
    )
    return image.resize((crop, crop), RESAMPLING[preprocessing.interpolation], box)


def normalise(image: Image.Image, preprocessing: Preprocessing) -> Array:
    """Return (value / 255 − mean) / std of an RGB image: (3,H,W) float32, C-contiguous."""
    std = np.asarray(preprocessing.std)
    scale = (1 / (255 * std)).astype(np.float32)[:, None, None]
    shift = (-np.asarray(preprocessing.mean) / std).astype(np.float32)[:, None, None]
    planes = np.asarray(image).transpose(2, 0, 1)
    out = np.empty(planes.shape, np.float32)
    np.multiply(planes, scale, out=out)
    out += shift
    return out
