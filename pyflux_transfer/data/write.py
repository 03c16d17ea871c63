"""Arrays to image files."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.errors import StorageError


def write_png(path: Path, pixels: Pixels, size: tuple[int, int]) -> None:
    """Write (H,W) or (H,W,3) uint8, resized to `size` (width, height), as PNG; make its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path, "PNG")
    except OSError as error:
        raise StorageError(f"Cannot write {path}: {error}.") from error
