"""A call's time by the wall's clock, and by the processors': that of all threads together."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable


def shortest(run: Callable[[], object], seconds: float, least: int = 2) -> tuple[float, float]:
    """Return the shortest seconds by each clock, of calls that fit into `seconds`, after one more.

    Other programs lengthen the first, and the second hardly: but threads that wait without sleep
    count in it, too.
    """
    run()
    walls: list[float] = []
    busy: list[float] = []
    while len(walls) < least or sum(walls) < seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        busy.append(time.process_time() - cpu)
    return min(walls), min(busy)


def clocked(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of processors, and of the wall, of work that finds nothing kept."""
    with tempfile.TemporaryDirectory(prefix="pyflux-bench-") as kept:
        os.environ["PYFLUX_CACHE"] = kept
        processors, wall = time.process_time(), time.perf_counter()
        work()
        return time.process_time() - processors, time.perf_counter() - wall
