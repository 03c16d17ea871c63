"""A call's time by the wall's clock, and by the processors': that of all threads together."""

from __future__ import annotations

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
