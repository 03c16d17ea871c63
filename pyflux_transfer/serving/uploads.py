"""What a request's body holds: named image files."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from pyflux_transfer.errors import ImageError
from pyflux_transfer.serving.problems import Problem

# What base64 is written with beside its own letters: line breaks, and the URL-safe letters.
_LETTERS = bytes.maketrans(b"-_", b"+/")
_SPACE = b" \t\r\n\f\v"


@dataclass(frozen=True)
class Upload:
    """One image file as it was sent; `data` is the reason where it could not even be unpacked."""

    name: str
    data: bytes | ImageError


def from_base64(text: str | bytes) -> bytes | ImageError:
    """Decode base64: plain, URL-safe, in lines, without its padding, or as a `data:` URL."""
    try:
        coded = text.encode("ascii") if isinstance(text, str) else text
        if coded[:5].lower() == b"data:":
            coded = coded.partition(b",")[2]
        coded = coded.translate(_LETTERS, _SPACE).rstrip(b"=")
        return base64.b64decode(coded + b"=" * (-len(coded) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        return ImageError(f"it is not base64 ({error}).")


def too_many(most: int) -> Problem:
    """Return the problem of a request that holds more images than are taken."""
    return Problem("too_many_images", f"The request has more than {most} images.")
