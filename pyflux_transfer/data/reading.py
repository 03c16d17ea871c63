"""Bytes from a disk: an ordinary file's, within a limit, and only where they begin as an image."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

from pyflux_transfer.data.entries import Content
from pyflux_transfer.data.formats import HEADER_BYTES, kind_of
from pyflux_transfer.data.walk import cause, irregular
from pyflux_transfer.errors import ImageError, shortened

MAX_PIXELS = 50_000_000
_BYTES_A_PIXEL = 8  # four channels of 16 bits, not compressed
_LEAST_BYTES = 2**26  # for small images with much beside their pixels


def read_file(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> bytes:
    """Return the bytes of a file that begins as an image does.

    Pipes and devices are not opened; of a file that is no image, or that has more than 8 bytes for
    each of `max_pixels`, only the first bytes are read. Raises ImageError, which names the file.
    """
    try:
        if reason := _no_file(os.stat(path).st_mode):  # noqa: PTH116
            raise ImageError(f"{reason}.")
        # Should it have become a pipe since, opening must not wait for its other end.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        with os.fdopen(handle, "rb") as file:
            return _read(file, max_pixels)
    except ImageError as error:
        raise ImageError(f"'{shortened(path)}' cannot be read: {error}") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"'{shortened(path)}' cannot be read: {cause(error)}.") from error


_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def read_stream(stream: IO[bytes] | Content, max_pixels: int) -> bytes:
    """Return what is left in an open binary file, within the limit. Raises ImageError."""
    limit = byte_limit(max_pixels)
    data = stream.read(limit + 1)
    if not isinstance(data, bytes):
        raise ImageError(f"it gives {type(data).__name__}, not bytes. Open it in binary mode.")
    _check_size(len(data), limit)
    return data


def read_content(name: str | Path, content: Content, max_pixels: int | None) -> bytes:
    """Return the bytes of an image that is no file, as `read_file` does; `name` is for messages."""
    try:
        size = -1 if max_pixels is None else byte_limit(max_pixels) + 1
        data = content.read(size)
        kind_of(data[:HEADER_BYTES])
        if max_pixels is not None:
            _check_size(len(data), byte_limit(max_pixels))
    except ImageError as error:
        reason = str(error).split(" cannot be read: ", 1)[-1]
        raise ImageError(f"'{shortened(name)}' cannot be read: {reason}") from error
    return data


def byte_limit(max_pixels: int) -> int:
    """Return how many bytes an image of so many pixels may have."""
    return max(_LEAST_BYTES, _BYTES_A_PIXEL * max_pixels)


def _no_file(mode: int) -> str:
    """Return why something is not opened; of folders the system itself says it best."""
    return "" if stat.S_ISDIR(mode) else irregular(mode)


def _read(file: IO[bytes], max_pixels: int | None) -> bytes:
    status = os.fstat(file.fileno())
    if reason := irregular(status.st_mode):
        raise ImageError(f"{reason}.")
    header = file.read(HEADER_BYTES)
    kind_of(header)
    if max_pixels is None:
        return header + file.read()
    limit = byte_limit(max_pixels)
    _check_size(status.st_size, limit)
    data = header + file.read(limit)
    _check_size(len(data), limit)
    return data


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ImageError(
            f"it has {size:,} bytes, more than the limit of {limit:,} ({_BYTES_A_PIXEL} for each "
            "pixel allowed). Shrink it, or raise max_pixels (--max-pixels)."
        )
