"""Notice that the bundle's file was replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

Signature = tuple[int, int, int]


def signature(path: Path) -> Signature | None:
    """Return numbers that change when the file is replaced or written; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


async def watch(path: Path, changed: Callable[[], None], every_s: float = 1.0) -> None:
    """Call `changed` whenever the file has become another one and has stood still for a while."""
    served = before = await asyncio.to_thread(signature, path)
    while True:
        await asyncio.sleep(every_s)
        now = await asyncio.to_thread(signature, path)
        if now is not None and now == before and now != served:
            served = now
            changed()
        before = now
