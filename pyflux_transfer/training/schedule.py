"""Learning-rate schedules: pure functions from progress (0–1) to a factor of the rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pyflux_transfer.errors import lookup


def constant(_: float) -> float:
    """Keep the rate."""
    return 1.0


def step(t: float) -> float:
    """Divide the rate by ten after each third."""
    return float(0.1 ** min(int(3 * t), 2))


def cosine(t: float, warmup: float = 0.1) -> float:
    """Rise linearly for a tenth, then fall along a half cosine to 0 (Loshchilov & Hutter 2017)."""
    if t < warmup:
        return t / warmup
    return 0.5 * (1 + math.cos(math.pi * (t - warmup) / (1 - warmup)))


def one_cycle(t: float, peak: float = 0.3, start: float = 1 / 25, end: float = 1e-4 / 25) -> float:
    """Rise from 1/25 to 1 in 30 %, then fall to 4e-6, both along cosines (Smith & Topin 2019)."""
    low, position = (start, t / peak) if t < peak else (end, (1 - t) / (1 - peak))
    return low + (1 - low) * 0.5 * (1 - math.cos(math.pi * position))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "one-cycle": one_cycle,
    "step": step,
    "constant": constant,
}


def rates(
    schedule: str, lr: float, lr_decay: float, stages: Sequence[str], steps: int
) -> Callable[[int], dict[str, float]]:
    """Return the function from a step (0 … steps − 1) to each stage's learning rate.

    The last stage gets `lr`, each one before it `lr_decay` times the next. A step stands for the
    middle of its interval, so neither the first nor the last has rate 0.
    """
    factor = lookup(SCHEDULES, schedule, "schedule")
    depth = {stage: lr_decay**i for i, stage in enumerate(reversed(stages))}

    def at(number: int) -> dict[str, float]:
        now = lr * factor((number + 0.5) / steps)
        return {stage: now * scale for stage, scale in depth.items()}

    return at
