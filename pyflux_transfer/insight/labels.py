"""Which labels are probably wrong: confident learning (Northcutt, Jiang & Chuang 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.insight.metrics import Floats, Labels

LEAST = 1e-12  # probability
HALF = 0.5  # of what speaks against a label is what speaks for another


@dataclass(frozen=True)
class Doubts:
    """What speaks against the labels of N photos; the higher a score, the more does."""

    score: NDArray[np.float64]  # (N,)
    suggested: Labels  # (N,) the class that is likeliest instead
    wrong: NDArray[np.bool_]  # (N,) photos that are confidently of another class

    def ranked(self) -> Labels:
        """Return the photos that are confidently of another class, the surest first."""
        found = np.flatnonzero(self.wrong)
        return found[np.argsort(-self.score[found], kind="stable")]


def doubt(probabilities: Floats, labels: Labels) -> Doubts:
    """Judge labels (N,) by out-of-fold probabilities (N, C).

    A class's threshold is the mean probability that its photos have for it. A photo is confidently
    of another class where that class's probability reaches its threshold and is the highest of
    those that do. The score compares, in logarithms, the label's probability with its threshold,
    and half as much the suggested class's. Over eight sets with 5 % of the labels exchanged that
    ranked them better than the label's probability alone does.
    """
    rows = np.arange(len(labels))
    typical = thresholds(probabilities, labels)
    reaching = np.where(probabilities >= typical, probabilities, 0)
    wrong = (reaching.max(axis=1) > 0) & (reaching.argmax(axis=1) != labels)
    usual = np.log(typical.clip(LEAST, 1))
    relative = np.log(np.maximum(probabilities, LEAST)) - usual
    others = relative.copy()
    others[rows, labels] = -np.inf
    likeliest = np.where(wrong, reaching.argmax(axis=1), others.argmax(axis=1))
    score = HALF * relative[rows, likeliest] - relative[rows, labels]
    return Doubts(score, likeliest.astype(np.int64), wrong)


def thresholds(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    """Return each class's mean probability over its photos (C,), infinite without any."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, own, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
