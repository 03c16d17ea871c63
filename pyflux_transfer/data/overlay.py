"""A heat map laid over the photo that it belongs to, as pixels and as files."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyflux_transfer.data.decode import Pixels

# Levels of the heat between which colours are interpolated: matplotlib's inferno, in six steps.
_COLOURS = np.array(
    [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)],
    np.float32,
)
STRENGTH = 0.65  # of the colour where the heat is greatest
SHOWN = 160  # pixels of the side of what a page shows
PALETTE = 96  # colours of a small PNG


def overlay(pixels: Pixels, heat: NDArray[np.float32]) -> Pixels:
    """Return pixels (H,W,3) uint8 under heat (h,w) from 0 to 1, the colours of inferno."""
    height, width = pixels.shape[:2]
    smooth = Image.fromarray(np.asarray(heat, np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    level = np.clip(np.asarray(smooth, np.float32), 0, 1)
    steps = np.arange(len(_COLOURS)) / (len(_COLOURS) - 1)
    colour = np.stack([np.interp(level, steps, channel) for channel in _COLOURS.T], axis=-1)
    share = (STRENGTH * level)[:, :, None]
    grey = pixels.mean(axis=2, keepdims=True) * 0.4 + pixels * 0.6
    return np.asarray(np.rint(grey * (1 - share) + colour * share), np.uint8)


def png(pixels: Pixels) -> bytes:
    """Return pixels as a PNG file."""
    return _file(Image.fromarray(pixels), "PNG")


def small_png(pixels: Pixels, side: int = SHOWN) -> bytes:
    """Return pixels as a PNG of few colours and at most `side` pixels, of about 15 kB."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    return _file(image.quantize(PALETTE), "PNG")


def small_jpeg(pixels: Pixels, side: int = SHOWN) -> bytes:
    """Return pixels as a JPEG of at most `side` pixels, of about 5 kB."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    return _file(image, "JPEG", quality=70)


def data_uri(data: bytes, kind: str) -> str:
    """Return a file's bytes as an address that holds them; `kind` is png or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _file(image: Image.Image, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
