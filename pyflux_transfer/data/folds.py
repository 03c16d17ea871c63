"""Folds: who judges whom when every photo shall train and be judged by a head that has not seen it.

Photos of equal content, and those of one group, fall into one fold: else a head would be judged by
what it has learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.data.dataset import Dataset, draw
from pyflux_transfer.errors import InputError

FOLDS = 5
Ints = NDArray[np.int64]


def folds(dataset: Dataset, *, count: int = FOLDS, seed: int = 0) -> Ints:
    """Return each photo's fold (N,): 0 … K − 1, or -1 for photos that are never held out.

    K is `count`, or less where a class has fewer photos, and at least 2; each fold holds about the
    same share of every class. The only photo of a class, or its only group, is not held out: nobody
    would be left who knows the class. Where that leaves nothing to hold out, all are -1. Which fold
    a photo falls into depends on the seed and names as in `split`, not on the order.
    """
    if count < 2:
        raise InputError(f"There must be at least 2 folds, got {count}.")
    together = _bunches(dataset, seed)
    spread = _spread(together)
    movable = [bunch for bunch in together if (spread[bunch.counts > 0] > 1).all()]
    found = np.full(len(dataset.samples), -1, np.int64)
    if not movable:
        return found
    held = np.sum([bunch.counts for bunch in movable], axis=0)
    smallest = int(_spread(movable)[held > 0].min())
    filled = np.zeros((max(min(count, smallest), 2), len(dataset.classes)))
    for bunch in movable:
        cost = (filled * bunch.counts / np.maximum(held, 1)).sum(axis=1)
        fold = min(range(len(filled)), key=lambda k: (cost[k], filled[k].sum(), k))
        filled[fold] += bunch.counts
        found[list(bunch.places)] = fold
    if not filled.any(axis=1).all():  # groups that span classes can leave a fold empty
        kept = np.unique(found[found >= 0])
        found[found >= 0] = np.searchsorted(kept, found[found >= 0])
    return found if found.max() > 0 else np.full_like(found, -1)


def bunches(dataset: Dataset) -> Ints:
    """Return numbers (N,) from 0, equal for photos that stay together and for no others."""
    found = np.zeros(len(dataset.samples), np.int64)
    for number, bunch in enumerate(_bunches(dataset, 0)):
        found[list(bunch.places)] = number
    return found


@dataclass(frozen=True)
class _Bunch:
    """Photos that stay together: their places in the dataset, and how many of each class."""

    places: tuple[int, ...]
    counts: Ints  # (C,)


def _spread(bunches: Sequence[_Bunch]) -> Ints:
    """Return in how many bunches each class is (C,)."""
    return np.asarray(np.sum([bunch.counts > 0 for bunch in bunches], axis=0))


def _bunches(dataset: Dataset, seed: int) -> list[_Bunch]:
    """Return the bunches, the largest first, equal ones as they are drawn."""
    samples = dataset.samples
    root = list(range(len(samples)))

    def top(i: int) -> int:
        while root[i] != i:
            root[i] = i = root[root[i]]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, sample in enumerate(samples):
        ties = [("content", sample.digest)]
        if sample.group is not None:
            ties.append(("group", sample.group))
        for tie in ties:
            root[top(i)] = top(first.setdefault(tie, i))
    together: dict[int, list[int]] = {}
    for i in range(len(samples)):
        together.setdefault(top(i), []).append(i)
    order = {
        head: (-len(places), min(draw(seed, samples[i]) for i in places))
        for head, places in together.items()
    }
    return [
        _Bunch(
            tuple(together[head]),
            np.bincount([samples[i].label for i in together[head]], minlength=len(dataset.classes)),
        )
        for head in sorted(together, key=lambda head: order[head])
    ]
