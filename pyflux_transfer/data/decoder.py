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
from pathlib import Path
from typing import IO, Any

import numpy as np

from pyflux_transfer.data.decode import Pixels, decode_picture
from pyflux_transfer.data.preprocess import center
from pyflux_transfer.errors import ImageError
from pyflux_transfer.networks.preprocessing import Preprocessing

# Less than this is not asked for: most photos.
FREE_BYTES = 64 << 20
# Beyond the estimate, which is of pixels alone: libraries, metadata, the photo's file.
SLACK_BYTES = 160 << 20
TOO_MUCH = "decoding it takes more memory than the {:,} bytes that its size asks for."
PREFIX = "The image cannot be read: "
_PAGE = resource.getpagesize()
_STATM = Path("/proc/self/statm")


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
    with os.fdopen(memory, "r+b", 0) as shared:
        answers.write(b"{}\n")
        while line := jobs.readline():
            answer = _answer(json.loads(line), shared, jobs, answers)
            answers.write(json.dumps(answer).encode() + b"\n")


def _answer(
    job: dict[str, Any], shared: IO[bytes], jobs: IO[bytes], answers: IO[bytes]
) -> dict[str, Any]:
    """Decode one photo, leave its pixels in the shared memory, and tell their shape."""
    shared.seek(0)
    data = _read(shared, job["bytes"])
    how = job["preprocessing"] and Preprocessing.from_json(job["preprocessing"])
    need = 0

    def admit(asked: int) -> None:
        nonlocal need
        need = asked
        if need > FREE_BYTES:
            answers.write(json.dumps({"need": need}).encode() + b"\n")
            jobs.readline()
        _limit_memory(max(need, FREE_BYTES) + SLACK_BYTES)

    _limit_time(job["seconds"])
    try:
        picture = decode_picture(
            data,
            max_pixels=job["max_pixels"],
            background=tuple(job["background"]),
            shorter_side=job["shorter_side"],
            admit=admit,
        )
        image = center(picture.image, how, picture.box) if how else picture.image
        pixels: Pixels = np.ascontiguousarray(image)
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError):
            return {
                "error": f"decoding it takes more memory than the {need:,} bytes its size asks."
            }
        return {"error": str(error).removeprefix(PREFIX)}
    except MemoryError:
        return {"error": f"decoding it takes more memory than the {need:,} bytes its size asks."}
    finally:
        _limit_memory(None)
    shared.seek(0)
    _write(shared, pixels.reshape(-1).data)
    return {"shape": pixels.shape, "box": picture.box}


def _read(file: IO[bytes], size: int) -> bytes:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        done += file.readinto(view[done:])  # type: ignore[attr-defined]
    return bytes(data)


def _write(file: IO[bytes], view: memoryview) -> None:
    done = 0
    while done < len(view):
        done += file.write(view[done:])


def _limit_memory(more: int | None) -> None:
    """Let this process grow by so many bytes and no further; None: without a limit."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = hard
    if more is not None:
        try:
            soft = int(_STATM.read_bytes().split()[5]) * _PAGE + more
        except OSError:  # not Linux: the limit would need another base
            return
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _limit_time(seconds: float) -> None:
    """End this process by itself where its parent is no longer there to do so."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime + 2 * seconds) + 1
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
