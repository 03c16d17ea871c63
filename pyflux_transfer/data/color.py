"""Colours as sRGB, which networks were trained on, from the profile a file embeds."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of the profile's colours → Pillow's
_ALIKE = 4  # levels: a profile that moves no colour further is sRGB, differently rounded


def to_srgb(image: Image.Image) -> Image.Image | None:
    """Return an 8-bit image as RGB in sRGB, by its profile; None where it needs no conversion.

    A profile that is sRGB, is damaged, or does not belong to such pixels changes nothing.
    """
    profile = image.info.get("icc_profile")
    if not profile or image.mode in ("1", "LAB"):
        return None
    mode = image.mode if image.mode in _MODES.values() else "RGB"
    # Grey pictures may carry the profile of the colour ones they were made from.
    for candidate in dict.fromkeys((mode, "RGB" if mode == "L" else mode)):
        transform = _transform(bytes(profile), candidate)
        if transform is not None:
            pixels = image if image.mode == candidate else image.convert(candidate)
            return transform.apply(pixels)
    return None


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """Return what turns pixels of a mode into sRGB, None where nothing has to be done."""
    try:
        from PIL import ImageCms

        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        if _MODES.get(source.profile.xcolor_space.strip()) != mode:
            return None
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, mode, "RGB")
        probe = _probe(mode)
        moved = np.asarray(transform.apply(probe), np.int16) - np.asarray(probe.convert("RGB"))
    # littlecms refuses damaged profiles with errors of its own; Pillow may be built without it.
    except (ImportError, OSError, ValueError, TypeError, SyntaxError, RuntimeError):
        return None
    except Exception as error:
        if type(error).__name__ != "PyCMSError":
            raise
        return None
    same = mode != "CMYK" and np.abs(moved).max() <= _ALIKE
    return None if same else transform


def _probe(mode: str) -> Image.Image:
    """Return all mixtures of a few levels of each channel."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    channels = len(mode)
    levels = np.linspace(0, 255, 9 if channels == 3 else 4).astype(np.uint8)
    mixed = np.stack(np.meshgrid(*[levels] * channels, indexing="ij"), -1).reshape(1, -1, channels)
    return Image.frombytes(mode, (mixed.shape[1], 1), np.ascontiguousarray(mixed).tobytes())
