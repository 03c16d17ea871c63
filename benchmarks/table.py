"""The table: what was measured, against whom, and whether it meets its goal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line. `ratio` counts in the goal's direction: speed-ups at least, shares at most.

    `goal` is None where a row informs only. `note` states what else was found: correctness, what
    was extrapolated and how, shares of the ceiling.
    """

    name: str
    peer: str
    ours: str
    theirs: str
    ratio: float | None
    goal: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.goal is None or self.ratio is None:
            return None
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        sign = "≤" if self.at_most else "≥"
        goal = f"{sign} {self.goal:g}×" if self.goal is not None else "–"
        mark = {True: "yes", False: "**no**", None: "–"}[self.met]
        ratio = f"{self.ratio:.2f}×" if self.ratio is not None else "–"
        return (self.name, self.peer, self.ours, self.theirs, ratio, goal, mark, self.note)


# What is measured together: its rows, anew at each call.
Task = Callable[[], list[Row]]

_HEADER = ("what", "peer", "ours", "peer's", "ratio", "goal", "met", "notes")


def line(cells: Iterable[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def header() -> str:
    """Return the two lines that begin the table."""
    return f"{line(_HEADER)}\n{line('---' for _ in _HEADER)}"
