"""Photos that are unlike their class, and unlike all: k-nearest distances of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.insight.copies import nearest
from pyflux_transfer.insight.metrics import Floats, Labels

NEIGHBOURS = 5
FEW = 8  # photos of a class from which it can be said what is usual in it
UNUSUAL = 3.5  # robust deviations above the median (Iglewicz & Hoaglin 1993)
_NORMAL = 1.4826  # standard deviations in a median absolute deviation, where all is normal


@dataclass(frozen=True)
class Distances:
    """How far N photos are from others, in robust deviations above what is usual."""

    own: NDArray[np.float64]  # (N,) from their class; 0 where it has too few photos
    all: NDArray[np.float64]  # (N,) from every photo

    @property
    def outliers(self) -> Labels:
        """Photos that are unusually far from their class, the farthest first."""
        found = np.flatnonzero(self.own > UNUSUAL)
        return found[np.argsort(-self.own[found], kind="stable")]

    @property
    def strange(self) -> NDArray[np.bool_]:
        """Photos (N,) that are unusually far from all others, too."""
        return self.all > UNUSUAL


def distances(units: Floats, labels: Labels, products: Floats | None = None) -> Distances:
    """Judge features (N, D) of length 1 by their distance to the fifth nearest.

    `products` (N, M), where they are known, are those with the M > 5 nearest, itself among them.
    """
    own = np.zeros(len(labels))
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        if len(where) >= FEW:
            own[where] = unusual(_distance(units[where]))
    every = unusual(_distance(units, products)) if len(labels) >= FEW else np.zeros(len(labels))
    return Distances(own, every)


def unusual(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return by how many robust deviations values (N,) exceed their median."""
    values = values.astype(np.float64)
    middle = np.median(values)
    spread = _NORMAL * np.median(np.abs(values - middle))
    return np.asarray((values - middle) / max(spread, 1e-3))


def _distance(units: Floats, products: Floats | None = None) -> Floats:
    """Return each row's distance to its fifth nearest, or to the farthest of fewer."""
    count = min(NEIGHBOURS, len(units) - 1)
    if products is None:
        _, products = nearest(units, units, count + 1)  # the row itself is among them
    least = np.partition(products, -count - 1, axis=1)[:, -count - 1]
    return np.asarray(np.sqrt(np.maximum(2 - 2 * least, 0)))
