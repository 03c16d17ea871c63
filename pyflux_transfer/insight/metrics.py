"""Metrics of a classifier: arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.errors import InputError

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 (0–1) of one class; `count` is how many examples it has."""

    label: str
    precision: float
    recall: float
    f1: float
    count: int


@dataclass(frozen=True)
class Evaluation:
    """What a classifier does on labelled examples.

    `confusion[i][j]` counts examples of class i that were called j. `log_loss` is in nats. `ece`
    is the expected calibration error with 15 bins of equal width (Guo et al. 2017).
    """

    count: int
    accuracy: float
    balanced_accuracy: float
    log_loss: float
    ece: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def evaluate(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> Evaluation:
    """Score probabilities (N, classes) against labels (N,) from 0.

    A class without examples counts in no mean; a class never called has precision 0.
    """
    if len(labels) == 0:
        raise InputError("There is nothing to evaluate: no example was given.")
    called = probabilities.argmax(axis=1)
    matrix = confusion(called, labels, len(classes))
    hits = np.diag(matrix).astype(float)
    per_class, per_call = matrix.sum(axis=1), matrix.sum(axis=0)
    recall = hits / np.maximum(per_class, 1)
    precision = hits / np.maximum(per_call, 1)
    f1 = 2 * hits / np.maximum(per_class + per_call, 1)
    scores = tuple(
        ClassScore(label, float(p), float(r), float(f), int(n))
        for label, p, r, f, n in zip(classes, precision, recall, f1, per_class, strict=True)
    )
    return Evaluation(
        count=len(labels),
        accuracy=float(hits.sum() / len(labels)),
        balanced_accuracy=float(recall[per_class > 0].mean()),
        log_loss=log_loss(probabilities, labels),
        ece=calibration_error(probabilities, labels),
        classes=scores,
        confusion=tuple(tuple(int(n) for n in row) for row in matrix),
    )


def confusion(called: NDArray[np.integer], labels: Labels, classes: int) -> NDArray[np.int64]:
    """Return counts (classes, classes): row the true class, column the called one."""
    flat = np.bincount(labels * classes + called, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def log_loss(probabilities: Floats, labels: Labels) -> float:
    """Return the mean of −log p(true class) in nats; p is kept at or above 1e-7."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-7)).mean())


def calibration_error(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over bins of confidence (0–1)."""
    confidence = probabilities.max(axis=1).astype(float)
    correct = probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(index, correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
