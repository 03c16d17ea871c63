"""The process that decodes: one photo after the other, within limits that the kernel keeps.

It speaks JSON lines on the pipes that were its stdin and stdout. A photo's bytes, and then its
pixels, lie in memory that it shares with its parent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pyflux_transfer.data.decode import Pixels, decode_picture
from pyflux_transfer.data.preprocess import fitted
from pyflux_transfer.errors import ImageError
from pyflux_transfer.networks.preprocessing import Preprocessing

# Less than this is not asked for: most photos.
FREE_BYTES = 64 << 20
# Beyond the estimate, which is of pixels alone: libraries, metadata, the photo's file.
SLACK_BYTES = 160 << 20
TOO_MUCH = "decoding it takes more memory than the {:,} bytes that its size asks for."
PREFIX = "The image cannot be read: "
GO = b"go\n"


def main(memory: int) -> None:
    """Decode what the parent sends until it closes the pipe."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides
    # What libraries have to say about a stranger's photo is told to the stranger, not to the logs.
    logging.disable()
    warnings.simplefilter("ignore")
    with contextlib.suppress(ImportError):
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    jobs = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    limits = Limits()

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    def ask(need: int) -> None:
        say({"need": need})
        if jobs.readline() != GO:
            raise _NotNowError

    with contextlib.suppress(BrokenPipeError):  # the parent is gone
        say({})
        while line := jobs.readline():
            say(_answer(json.loads(line), memory, limits, ask))


def _answer(
    order: dict[str, Any], memory: int, limits: Limits, ask: Callable[[int], None]
) -> dict[str, Any]:
    """Decode one photo, leave its pixels in the shared memory, and tell their shape."""
    data = os.pread(memory, order["bytes"], 0)
    job, how = _job(order["job"])
    need = 0

    def admit(asked: int) -> None:
        nonlocal need
        if asked > max(need, FREE_BYTES):  # a file without its end is decoded more than once
            ask(asked)
        need = max(need, asked)
        limits.memory(need)

    limits.time(order["seconds"])
    try:
        picture = decode_picture(
            data,
            max_pixels=job["max_pixels"],
            background=tuple(job["background"]),
            shorter_side=job["shorter_side"],
            admit=admit,
        )
        image = fitted(picture.image, how, picture.box) if how else picture.image
        pixels: Pixels = np.ascontiguousarray(image)
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError):
            return {
                "error": f"decoding it takes more memory than the {need:,} bytes its size asks."
            }
        return {"error": str(error).removeprefix(PREFIX)}
    except _NotNowError:
        return {"later": True}
    except MemoryError:
        return {"error": f"decoding it takes more memory than the {need:,} bytes its size asks."}
    view, place = pixels.reshape(-1).data, 0
    while place < len(view):
        place += os.pwrite(memory, view[place:], place)
    return {"shape": pixels.shape, "box": picture.box, "mended": picture.mended}


class _NotNowError(BaseException):
    """The parent puts a photo off; no exception, so that no reader takes it for damage."""


@lru_cache(maxsize=8)
def _job(text: str) -> tuple[dict[str, Any], Preprocessing | None]:
    """Read how photos are decoded, which is the same for most."""
    row = json.loads(text)
    return row, row["preprocessing"] and Preprocessing.from_json(row["preprocessing"])


class Limits:
    """What the kernel lets this process use; changed only where it must be."""

    def __init__(self) -> None:
        self._base = 0
        self._memory = 0
        with contextlib.suppress(OSError):  # not Linux: the limit would need another base
            self._base = int(Path("/proc/self/statm").read_bytes().split()[5])
            self._base *= resource.getpagesize()

    def memory(self, need: int) -> None:
        """Let this process grow by `need` bytes, and some, and no further."""
        wanted = self._base + max(need, FREE_BYTES) + SLACK_BYTES
        if self._base and wanted != self._memory:
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
            self._memory = wanted

    def time(self, seconds: float) -> None:
        """End this process by itself where its parent is no longer there to do so."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = int(used.ru_utime + used.ru_stime + 2 * seconds) + 1
        if hard == resource.RLIM_INFINITY or soft < hard:
            resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
