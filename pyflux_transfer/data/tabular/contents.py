"""Images that are no files: their bytes, as those of a file would be."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyflux_transfer.data.decode import decode
from pyflux_transfer.data.entries import Content
from pyflux_transfer.data.reading import read_file
from pyflux_transfer.errors import ImageError


@dataclass(frozen=True)
class Held:
    """Bytes that are there."""

    data: bytes

    def read(self, size: int = -1, /) -> bytes:
        """Return them."""
        return self.data if size < 0 else self.data[:size]


@dataclass(frozen=True)
class Drawn:
    """Pixels, as the simplest file that holds them: PPM or, with transparent ones, PNG."""

    image: Image.Image | NDArray[Any]

    def read(self, size: int = -1, /) -> bytes:
        """Return the file. Raises ImageError for what is no image."""
        data = _file(self.image)
        return data if size < 0 else data[:size]


@dataclass(frozen=True)
class Fetched:
    """A cell that is looked up when it is read, so that a large table need not be in memory."""

    fetch: Callable[[int], Any]
    row: int

    def read(self, size: int = -1, /) -> bytes:
        """Return the image's bytes. Raises ImageError where there are none."""
        found = content(self.fetch(self.row))
        if isinstance(found, Path):
            return read_file(found, None)
        return found.read(size)


def content(cell: object) -> Content | Path:
    """Return what a cell, or an item of a list, holds: a path, or an image's bytes.

    A mapping of `bytes` and `path`, as Hugging Face keeps images, gives its bytes where there are
    some. Raises ImageError for anything else, with the reason alone.
    """
    if isinstance(cell, Mapping):
        inner = cell.get("bytes")
        return content(cell.get("path") if inner is None else inner)
    for kinds, read in _KINDS:
        if isinstance(cell, kinds):
            return read(cell)
    if isinstance(cell, (list, tuple)):
        return Drawn(np.asarray(cell))
    raise ImageError(
        f"it is {type(cell).__name__}, not a path, bytes, a Pillow image or an array of pixels."
    )


def _path(cell: str | Path) -> Path:
    # Here other places than this machine's disks will be entered.
    scheme, found, _ = str(cell).partition("://")
    if found and scheme.isalnum():
        raise ImageError(f"'{cell}' is on another machine. Copy the photos here first.")
    return Path(cell)


def _array(cell: NDArray[Any]) -> Content:
    return Drawn(cell)


_KINDS: tuple[tuple[Any, Callable[[Any], Content | Path]], ...] = (
    ((str, Path), _path),
    ((bytes, bytearray, memoryview), lambda cell: Held(bytes(cell))),
    ((Image.Image, np.ndarray), _array),
)


def _file(image: Image.Image | NDArray[Any]) -> bytes:
    clear = isinstance(image, Image.Image) and image.has_transparency_data
    if clear or (isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 4):
        return _png(image)
    pixels = decode(image)
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()


def _png(image: Image.Image | NDArray[Any]) -> bytes:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise ImageError(f"an array with transparency must be of uint8, got {image.dtype}.")
        image = Image.fromarray(image)
    file, profile = io.BytesIO(), image.info.get("icc_profile")
    exif = image.getexif().tobytes()
    image.convert("RGBA").save(file, "PNG", compress_level=1, icc_profile=profile, exif=exif)
    return file.getvalue()
