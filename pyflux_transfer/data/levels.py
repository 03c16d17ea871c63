"""Grey values of more than 8 bits, or with a sign, as 8 bits: scaled as the file says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
_BITS, _PHOTOMETRIC, _FORMAT, _HIGHEST = 258, 262, 339, 341  # TIFF's tags
_WHITE_IS_ZERO = 0
_SIGNED, _FLOAT = 2, 3
_INTEGERS_OF_16 = ("PNG", "PPM")  # which Pillow may give as 32 bits
_BLOCK = 2**20  # values
_OVERSHOOT = 1.25  # resampling leaves values a little above white


@dataclass(frozen=True)
class Values:
    """What a file says of its values: bits, or 0 where it does not; kind; is zero white?"""

    bits: int
    kind: Literal["u", "i", "f"]
    inverted: bool = False
    highest: float = 0.0  # that a value can have, where the file says so


def is_wide(image: Image.Image) -> bool:
    """Tell whether a loaded image's values are other than 8 bits from black to white."""
    return image.mode == "F" or image.mode.startswith("I") or _is_signed_byte(image)


def to_8_bits(image: Image.Image) -> Image.Image:
    """Return a wide grey image as 8-bit grey, with alpha where one value is transparent."""
    said, values = _said(image), np.asarray(image)
    if image.mode == "I" and said.bits == 32 and said.kind == "u":
        values = values.view(np.uint32)
    if _is_signed_byte(image):
        values = values.view(np.int8)
    grey = as_8_bits(values, said)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        return Image.fromarray(np.dstack([grey, np.where(values == clear, 0, 255).astype("u1")]))
    return Image.fromarray(grey)


def as_8_bits(values: NDArray[Any], said: Values) -> Pixels:
    """Return values of any shape as 0 to 255, black to white."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    white, size = _white(values, said), values.dtype.itemsize
    grey: Pixels
    if said.kind != "f" and size <= 2:
        grey = _table(values.dtype.char, white)[values.view(f"u{size}")]
    else:
        grey = scaled(values, white)
    return 255 - grey if said.inverted else grey


@lru_cache(maxsize=8)
def _table(form: str, white: float) -> Pixels:
    """Return the level of each value of up to 16 bits, by its bytes as an unsigned number."""
    size = np.dtype(form).itemsize
    return scaled(np.arange(256**size, dtype=f"u{size}").view(form), white)


def scaled(values: NDArray[Any], white: float) -> Pixels:
    """Return values from 0 to `white` as 0 to 255; what is no number becomes 0."""
    found = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK * len(values) // max(values.size, 1))
    for top in range(0, len(values), rows):  # to hold few floats at a time
        found[top : top + rows] = _scaled(values[top : top + rows], white)
    return found


def _scaled(values: NDArray[Any], white: float) -> Pixels:
    top = np.float32(white)
    clipped = np.clip(np.nan_to_num(values.astype(np.float32)), 0, top)
    rounded: Pixels = np.clip(clipped * (np.float32(255) / top) + 0.5, 0, 255).astype(np.uint8)
    return rounded


def _said(image: Image.Image) -> Values:
    tags = getattr(image, "tag_v2", None)
    if tags is None or _BITS not in tags:
        if image.mode == "F":
            return Values(32, "f")
        is_16 = image.mode.startswith("I;16") or image.format in _INTEGERS_OF_16
        return Values(16, "u") if is_16 else Values(32, "i")
    kind = {_SIGNED: "i", _FLOAT: "f"}.get(_first(tags.get(_FORMAT, 1)), "u")
    highest = _first(tags.get(_HIGHEST, 0))
    return Values(
        int(_first(tags[_BITS])),
        kind,  # type: ignore[arg-type]
        _first(tags.get(_PHOTOMETRIC, 1)) == _WHITE_IS_ZERO,
        float(highest) if isinstance(highest, (int, float)) else 0.0,
    )


def _white(values: NDArray[Any], said: Values) -> float:
    """Return the value that means white.

    Up to 16 bits the file says it. 32 bits and floats are kept by programs that mean fewer: 8 or 16
    bits, or 0 to 1.
    """
    if said.kind != "f" and said.bits <= 16:
        return float(2 ** (said.bits - (said.kind == "i")) - 1)
    highest = float(np.max(values, where=np.isfinite(values), initial=0))
    levels: tuple[float, ...] = (255.0, 65535.0, 2.0 ** (32 - (said.kind == "i")) - 1)
    over = 1.0
    if said.kind == "f":
        levels, over = (1.0, 255.0, 65535.0, 2.0**32 - 1), _OVERSHOOT
        if said.highest:
            levels = (said.highest, *levels)
    return next((level for level in levels if highest <= over * level), highest)


def _is_signed_byte(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", None)
    return image.mode == "L" and tags is not None and _first(tags.get(_FORMAT, 1)) == _SIGNED


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value
