"""Lines on a small chart, as numbers that a template draws: nothing here is HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40


@dataclass(frozen=True)
class Line:
    """A named line; `marks` shows its points too, `ideal` draws it thin, to compare with."""

    name: str
    points: Sequence[tuple[float, float]]
    marks: bool = False
    ideal: bool = False


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in pixels, and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Drawn:
    """A line in pixels: an SVG path's points, and the points alone."""

    name: str
    path: str
    marks: tuple[tuple[float, float], ...]
    ideal: bool


@dataclass(frozen=True)
class Chart:
    """What a template needs to draw; `told` says the same in words, for those who do not see it."""

    title: str
    told: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Drawn, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def chart(
    title: str, told: str, x_label: str, y_label: str, lines: Sequence[Line],
    x_range: tuple[float, float] | None = None, y_range: tuple[float, float] | None = None,
) -> Chart:  # fmt: skip
    """Place lines on a chart; ranges not given are those of the lines, from round numbers."""
    points = [point for line in lines for point in line.points if all(map(math.isfinite, point))]
    x_steps = steps(*(x_range or _range([x for x, _ in points])))
    y_steps = steps(*(y_range or _range([y for _, y in points])))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_steps[0]) / (x_steps[-1] - x_steps[0])
        up = (y - y_steps[0]) / (y_steps[-1] - y_steps[0])
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    drawn = []
    for line in lines:
        placed = [place(*point) for point in line.points if all(map(math.isfinite, point))]
        path = " ".join(f"{x},{y}" for x, y in placed)
        drawn.append(Drawn(line.name, path, tuple(placed) if line.marks else (), line.ideal))
    return Chart(
        title, told, x_label, y_label,
        tuple(Tick(place(x, y_steps[0])[0], f"{x:g}") for x in x_steps),
        tuple(Tick(place(x_steps[0], y)[1], f"{y:g}") for y in y_steps),
        tuple(drawn),
    )  # fmt: skip


def steps(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers, evenly spaced, the first at or below low, the last at or above high."""
    if high <= low:
        high = low + 1
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)
