"""Processes, times, memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """What a process took, start and imports included, and what it reported."""

    seconds: float
    peak_bytes: int  # resident, of the process itself: the peer's loader processes do not count
    report: dict[str, Any]


def process(module: str, cache: Path, /, **arguments: Any) -> Cost:
    """Run `python -m benchmarks.<module>` with its arguments as JSON; it calls `finish` at its end.

    `cache` is what the process sees as the user's cache folder: give a fresh one for a cold start.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", json.dumps(arguments, default=str)]
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYFLUX_CACHE": str(cache)},
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{module} failed with {arguments}:\n{done.stdout}")
    report = json.loads(done.stdout.splitlines()[-1])
    return Cost(seconds, report.pop("peak_bytes"), report)


def arguments() -> dict[str, Any]:
    """Return what `process` passed."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def finish(**report: Any) -> None:
    """Report to `process`: the last line on stdout."""
    # Not getrusage: what it tells of a child includes the parent's memory before the exec.
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    print(json.dumps({**report, "peak_bytes": 1024 * int(peak[1])}))


def busy_s() -> float:
    """Return the processor time that all programs of the machine have spent."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()
    user, nice, system, _, _, irq, softirq = (int(word) for word in first[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Bystanders:
    """Tells which share of the cores other programs took since it was last asked."""

    def __init__(self) -> None:
        self._before = self._now()

    def share(self) -> float:
        """Return it, from 0 to 1; children that still run count as others."""
        before, self._before = self._before, self._now()
        wall, busy, own = (new - old for new, old in zip(self._before, before, strict=True))
        return max(busy - own, 0) / (wall * (os.cpu_count() or 1))

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Return the time, all the processor time used, and that of us and our children."""
        return time.monotonic(), busy_s(), sum(os.times()[:4])


def best(function: Callable[[], object], *, seconds: float, least: int = 3) -> float:
    """Return the shortest of the calls that fit into `seconds`, at least `least`, after one more.

    The shortest, since whatever else the machine does can only add to it.
    """
    function()
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def products(precision: str, device: str | torch.device, *, seconds: float = 1.0) -> float:
    """Return the FLOP/s of large matrix products on a graphics card; of processors see ceiling."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    a, b = (torch.randn(8192, 8192, device=device).to(dtype) for _ in range(2))

    def multiply() -> float:
        return float((a @ b)[0, 0])  # fetched: a graphics card works on by itself

    with torch.inference_mode():
        return 2 * 8192**3 / best(multiply, seconds=seconds)
