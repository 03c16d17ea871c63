"""Metrics of a classifier: arrays in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
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
    is the expected calibration error with 15 bins of equal width (Guo et al. 2017). `unsure` counts
    the examples that are below the model's threshold of belonging; None where it has none.
    """

    count: int
    accuracy: float
    balanced_accuracy: float
    log_loss: float
    ece: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    unsure: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def _repr_html_(self) -> str:
        low, high = interval(round(self.accuracy * self.count), self.count)
        heads = "".join(f"<th>{name}</th>" for name in ("class", "precision", "recall", "F1", "n"))
        rows = "".join(
            f"<tr><td>{escape(row.label)}</td><td>{row.precision:.3f}</td>"
            f"<td>{row.recall:.3f}</td><td>{row.f1:.3f}</td><td>{row.count}</td></tr>"
            for row in self.classes
        )
        unsure = "" if self.unsure is None else f", {self.unsure} called unsure"
        return (
            f"<p>{self.count} images, accuracy <b>{self.accuracy:.1%}</b> ({low:.1%} to "
            f"{high:.1%}), balanced {self.balanced_accuracy:.1%}, log loss {self.log_loss:.4f}, "
            f"calibration error {self.ece:.3f}{unsure}</p><table><tr>{heads}</tr>{rows}</table>"
        )


def interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share, after Wilson 1927."""
    z = 1.959964
    share, room = right / count, z * z / count
    centre = (share + room / 2) / (1 + room)
    half = z * math.sqrt(share * (1 - share) / count + room / (4 * count)) / (1 + room)
    return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True)
class Bin:
    """Photos of like confidence: how sure the model was, and how often it was right."""

    confidence: float
    accuracy: float
    count: int


def reliability(probabilities: Floats, labels: Labels, bins: int = 10) -> list[Bin]:
    """Return the bins of equal width that hold something, by confidence."""
    confidence = probabilities.max(axis=1).astype(float)
    correct = probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        Bin(float(confidence[index == i].mean()), float(correct[index == i].mean()),
            int((index == i).sum()))
        for i in range(bins) if (index == i).any()
    ]  # fmt: skip


def by_threshold(
    probabilities: Floats, labels: Labels, steps: int = 50
) -> list[tuple[float, float, float]]:
    """Return threshold, precision, recall where only answers at least so sure are given.

    Precision is the share of given answers that are right, recall that of all photos that are
    answered rightly. Thresholds without an answer are left out.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    rows = []
    for threshold in np.linspace(0, 1, steps + 1):
        given = confidence >= threshold
        if given.any():
            right = float((given & correct).sum())
            rows.append((float(threshold), right / float(given.sum()), right / len(labels)))
    return rows


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


def calibration_chance(probabilities: Floats, bins: int = 15, draws: int = 200) -> float:
    """Return the calibration error that probabilities (N, C) would show were they exactly right.

    Of few photos it is far from 0. The mean over draws of what they say comes true: consistency
    resampling (Bröcker & Smith 2007).
    """
    confidence = probabilities.max(axis=1).astype(float)
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    rng = np.random.default_rng(0)
    drawn = (
        np.bincount(index, (rng.random(len(index)) < confidence) - confidence, minlength=bins)
        for _ in range(draws)
    )
    return float(np.mean([np.abs(gaps).sum() for gaps in drawn]) / len(index))
