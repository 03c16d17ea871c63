"""Single runs in a file of JSON lines, and the table of their means."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

COLUMNS = (
    "data", "photos a class", "recipe", "runs", "accuracy, %", "log loss", "ECE", "by chance",
    "seconds",
)  # fmt: skip


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


def table(known: Mapping[Place, Measured]) -> Iterator[str]:
    """Yield the table's lines: means over the seeds, with the standard error."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|" + "---|" * len(COLUMNS)
    grouped: dict[tuple[str, str, str], list[Measured]] = {}
    for place, found in known.items():
        grouped.setdefault((place.data, place.size, place.recipe), []).append(found)
    order = list(dict.fromkeys((data, size) for data, size, _ in grouped))
    for wanted in order:
        for (*where, recipe), some in grouped.items():
            if tuple(where) == wanted:
                cells = (
                    str(len(some)),
                    _mean([100 * each.accuracy for each in some], 1),
                    _mean([each.log_loss for each in some], 3),
                    _mean([each.ece for each in some], 3),
                    f"{np.mean([each.chance for each in some]):.3f}",
                    f"{np.median([each.seconds for each in some]):.1f}",
                )
                yield f"| {' | '.join((*wanted, recipe, *cells))} |"


def _mean(values: Sequence[float], digits: int) -> str:
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    error = np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"
