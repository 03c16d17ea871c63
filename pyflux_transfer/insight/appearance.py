"""Photos that show nothing, or show it badly: blank, tiny, blurred, very dark or bright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

BLANK = 0.012  # standard deviation of grey: three levels of 255


@dataclass(frozen=True)
class Rule:
    """When a measure is bad: beyond `limit` and beyond `times` the median, below or above.

    What is usual in a set is no fault: a set of drawings is bright, one of stars dark.
    """

    measure: str
    limit: float
    times: float
    below: bool = True

    def broken(self, values: Values) -> NDArray[np.bool_]:
        """Tell which of N values break it."""
        if self.below:
            return (values < self.limit) & (values < self.times * np.median(values))
        return (values > self.limit) & (1 - values < self.times * (1 - np.median(values)))


RULES = {
    "blank": Rule("contrast", BLANK, 0.5),
    "tiny": Rule("shorter", 64, 0.5),
    "blurred": Rule("sharpness", 0.02, 0.1),
    "dark": Rule("brightness", 0.12, 0.4),
    "bright": Rule("brightness", 0.93, 0.4, below=False),
}


def faults(measures: dict[str, Values]) -> dict[str, NDArray[np.int64]]:
    """Return the photos that break each rule, the worst first; a blank one breaks no other."""
    found: dict[str, NDArray[np.int64]] = {}
    told = np.zeros(len(next(iter(measures.values()))), bool)
    for name, rule in RULES.items():
        values = measures[rule.measure]
        where = np.flatnonzero(rule.broken(values) & ~told)
        found[name] = where[np.argsort(values[where] * (1 if rule.below else -1), kind="stable")]
        if name == "blank":
            told[where] = True
    return found
