"""Which photos to label next: those a classifier is unsure of, unlike what it knows, spread out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.insight.copies import nearest
from pyflux_transfer.insight.metrics import Floats, Labels

LAST = 1e-3  # of their doubt is left to photos that are none of the classes


def select(
    probabilities: Floats,
    units: Floats,
    known: Floats,
    count: int,
    sure: NDArray[np.bool_] | None = None,
) -> Labels:
    """Return up to `count` photos, the one to label first at the front.

    Each time the photo is taken whose doubt times distance is the highest. The doubt is 1 less the
    margin between its two highest `probabilities` (N, C) (Scheffer, Decomain & Wrobel 2001); the
    distance is that of its features `units` (N, D), of length 1, to the nearest that is `known`
    (M, D) or was taken (Sener & Savarese 2018). So of two copies one is taken. Where nothing is
    known the first is the most doubtful. Photos that are not `sure` (N,) to belong come last: with
    a fifth of strange photos among them half as many were asked for in vain, at no cost.
    """
    count = min(count, len(units))
    doubt = doubts(probabilities)
    if sure is not None:
        doubt = np.where(sure, doubt, LAST * doubt)
    far = np.ones(len(units), np.float32)
    if len(known):
        far = 1 - nearest(units, known, 1)[1][:, 0]
    taken = np.zeros(len(units), bool)
    chosen = np.empty(count, np.int64)
    for place in range(count):
        worth = doubt * np.maximum(far, 0)
        worth[taken] = -1
        best = int(worth.argmax())
        chosen[place], taken[best] = best, True
        far = np.minimum(far, 1 - units @ units[best])
    return chosen


def doubts(probabilities: Floats) -> Floats:
    """Return 1 less the margin between the two highest probabilities of each row (N,)."""
    two = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(1 - (two[:, 1] - two[:, 0]))
