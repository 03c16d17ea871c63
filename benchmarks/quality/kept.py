"""Single runs in a file of JSON lines, and the tables of their means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Place:
    """Which run it was."""

    data: str
    size: str
    recipe: str
    seed: int


@dataclass(frozen=True)
class Measured:
    """What came out, on photos that were not learnt from."""

    accuracy: float
    log_loss: float
    ece: float
    chance: float  # the ece were the probabilities exactly right, on so many photos
    seconds: float


def read(file: Path | None) -> dict[Place, Measured]:
    """Return the runs of a file, none where there is no file."""
    lines = file.read_text().splitlines() if file and file.exists() else []
    rows = [json.loads(line) for line in lines]
    return {Place(**row["run"]): Measured(**row["found"]) for row in rows}


def add(file: Path | None, place: Place, found: Measured) -> None:
    """Write a run behind the others."""
    if file:
        with file.open("a") as out:
            out.write(json.dumps({"run": asdict(place), "found": asdict(found)}) + "\n")


def _mean(values: Sequence[float], digits: int) -> str:
    """Return the mean, with its standard error where there are several values."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    error = np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def _accuracy(some: Sequence[Measured]) -> str:
    return _mean([100 * run.accuracy for run in some], 1)


def _log_loss(some: Sequence[Measured]) -> str:
    return _mean([run.log_loss for run in some], 3)


def _calibration(some: Sequence[Measured]) -> str:
    return f"{_mean([run.ece for run in some], 3)} ({np.mean([run.chance for run in some]):.3f})"


def _seconds(some: Sequence[Measured]) -> str:
    return f"{np.median([run.seconds for run in some]):.1f}"


MEASURES: dict[str, Callable[[Sequence[Measured]], str]] = {
    "accuracy, %": _accuracy,
    "log loss, nats": _log_loss,
    "calibration error (by chance)": _calibration,
    "seconds": _seconds,
}


def tables(known: Mapping[Place, Measured]) -> Iterator[str]:
    """Yield the lines of a table a measure: a row a data set and size, a column a recipe.

    Cells are means over the seeds with their standard errors, of seconds medians.
    """
    rows: dict[tuple[str, str], dict[str, list[Measured]]] = {}
    for place, found in known.items():
        row = rows.setdefault((place.data, place.size), {})
        row.setdefault(place.recipe, []).append(found)
    recipes = list(dict.fromkeys(place.recipe for place in known))
    for recipe in recipes:
        counts = [len(row[recipe]) for row in rows.values() if recipe in row]
        yield f"{recipe}: {min(counts)} to {max(counts)} draws in {len(counts)} rows"
    for measure, cell in MEASURES.items():
        yield f"\n| {measure} of | photos a class | {' | '.join(recipes)} |"
        yield "|" + "---|" * (2 + len(recipes))
        for (data, size), row in rows.items():
            cells = (cell(row[recipe]) if recipe in row else "–" for recipe in recipes)
            yield f"| {' | '.join((data, size, *cells))} |"
