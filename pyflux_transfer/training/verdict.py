"""What photos that were held out say of a classifier, and of one beside another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.engines.base import Labels
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.design import Doubles
from pyflux_transfer.training.estimate import Estimate, standard_error
from pyflux_transfer.training.temperature import calibrate, log_losses

Ints = NDArray[np.int64]
LEAST = 1e-3  # nats: less may be rounding


@dataclass(frozen=True)
class Truth:
    """What is known of all photos: their labels, which stay together, what a class weighs."""

    labels: Labels  # (N,)
    bunches: Ints  # (N,) see data.folds
    weights: Array | None  # (C,)


@dataclass(frozen=True)
class Start:
    """The solved head, from which training goes on deeper, and its answers, to be beaten."""

    truth: Truth
    folds: Ints  # (N,) who judges whom: see data.folds
    learnt: NDArray[np.bool_]  # (N,) photos that can judge: their fold's head knows their class
    logits: Array  # (N, C), each photo's by the head that has not seen it
    heads: Sequence[tuple[Array, Array]]  # weight and bias, solved without each fold


@dataclass(frozen=True)
class Answers:
    """A classifier's answers for photos that it has not seen, made as sure as they are right."""

    photos: Ints  # (M,) their numbers
    logits: Array  # (M, C)
    temperature: float
    right: NDArray[np.bool_]  # (M,)
    losses: Doubles  # (M,) log losses at that temperature, in nats
    share: Doubles  # (M,) what a photo's loss counts, 1 in all
    bunches: Ints  # (M,)

    @classmethod
    def of(cls, truth: Truth, photos: Ints, logits: Array) -> Answers:
        """Fit the temperature, and judge."""
        labels = truth.labels[photos]
        temperature = calibrate(logits, labels)
        share = np.ones(len(labels)) if truth.weights is None else truth.weights[labels]
        return cls(
            photos, logits, temperature, logits.argmax(axis=1) == labels,
            log_losses(logits, labels, temperature), share / share.sum(), truth.bunches[photos],
        )  # fmt: skip

    @property
    def accuracy(self) -> float:
        """Share of photos that are answered rightly."""
        return float(self.right.mean())

    @property
    def log_loss(self) -> float:
        """Mean log loss in nats, class weights applied."""
        return float(self.share @ self.losses)


@dataclass(frozen=True)
class Verdict:
    """By how much answers are better than others to the same photos."""

    answers: Answers
    gain: float  # by how much the log loss is lower, in nats
    error: float  # its standard error
    more: float  # by how much the accuracy is higher

    @classmethod
    def of(cls, answers: Answers, before: Answers) -> Verdict:
        """Compare photo by photo."""
        gains = before.losses - answers.losses
        gain = float(answers.share @ gains)
        error = standard_error(answers.share * (gains - gain), answers.bunches)
        return cls(answers, gain, error, answers.accuracy - before.accuracy)

    @property
    def pays(self) -> bool:
        """Tell whether they are better, by more than luck and enough to matter."""
        return self.gain > max(self.error, LEAST) and self.more >= 0

    def sentence(self) -> str:
        """Return what was found, as one would say it."""
        return (
            f"log loss {self.answers.log_loss:.3f} ({-self.gain:+.3f} ± {self.error:.3f}), "
            f"accuracy {100 * self.answers.accuracy:.1f} % ({100 * self.more:+.1f})"
        )


def in_reach(verdicts: Sequence[Verdict]) -> list[bool]:
    """Tell which may yet pay most: those no worse than nothing or the best, but for luck."""
    best = max((verdict.gain - verdict.error for verdict in verdicts), default=0.0)
    return [verdict.gain + verdict.error >= max(best, 0.0) for verdict in verdicts]


def estimated(
    answers: Answers, folds: int, decay: float, tried: int, deeper: str | None = None
) -> Estimate:
    """Return what the answers let expect."""
    accuracy, loss = answers.accuracy, answers.log_loss
    right = (answers.right - accuracy) / len(answers.right)
    return Estimate(
        accuracy, standard_error(right, answers.bunches),
        loss, standard_error(answers.share * (answers.losses - loss), answers.bunches),
        len(answers.photos), folds, decay, tried, deeper,
    )  # fmt: skip
