"""How many workers, and what each may use of the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pyflux_transfer.installation.environment import visible_gpus
from pyflux_transfer.serving.settings import CPUS, Settings

# On a CPU, the layers of more images than this do not stay in its caches, and each costs more.
CPU_BATCH, GPU_BATCH = 8, 32


def max_batch(settings: Settings, outer: Mapping[str, str] = os.environ) -> int:
    """Return how many images a worker computes together at most."""
    return settings.max_batch or (GPU_BATCH if _gpus(settings, outer) else CPU_BATCH)


def environments(
    settings: Settings, outer: Mapping[str, str] = os.environ
) -> tuple[dict[str, str], ...]:
    """Return one environment a worker: a GPU each where there are some, else a share of the CPU.

    Variables that are set outside already are left alone.
    """
    gpus = _gpus(settings, outer)
    count = settings.workers or max(1, len(gpus))
    threads = settings.threads or max(1, CPUS // count)
    rows = []
    for index in range(count):
        row = {
            name: str(threads)
            for name in ("OMP_NUM_THREADS", "JULIA_NUM_THREADS")
            if settings.threads or name not in outer
        }
        if len(gpus) > 1:
            row["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
        rows.append(row)
    return tuple(rows)


def _gpus(settings: Settings, outer: Mapping[str, str]) -> list[str]:
    return [] if settings.device == "cpu" else visible_gpus(outer)
