"""Heavy photos of a library call: decoded in a few processes that the whole program shares."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from pyflux_transfer.data.decoders import Decoders

COUNT = 2
SECONDS = 60.0

_lock = threading.Lock()
_running: dict[int, Decoders] = {}  # by process id: a fork has none of its parent's


def possible() -> bool:
    """Tell whether this system has what it takes."""
    return sys.platform != "win32"


def decode(
    data: bytes, max_pixels: int, background: tuple[int, int, int], shorter_side: int | None
) -> tuple[Image.Image, tuple[float, float, float, float], bool]:
    """Return what `decode_picture` makes of a file's bytes: an RGB image, its box, is it mended.

    Raises ImageError with the reason alone, also for what takes too long or too much memory.
    """
    # Imported late: a decoding process imports the decoder, too, and needs no others.
    from pyflux_transfer.data.decoders import Job

    job = Job(max_pixels, background, shorter_side)
    found = _decoders().decode(data, job)
    return Image.fromarray(found.pixels), found.box, found.mended


def _decoders() -> Decoders:
    from pyflux_transfer.data.decoders import Decoders

    with _lock:
        if os.getpid() not in _running:
            made = _running[os.getpid()] = Decoders(COUNT, SECONDS)
            atexit.register(made.close)
        return _running[os.getpid()]
