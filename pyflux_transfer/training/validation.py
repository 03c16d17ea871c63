"""How much a solved head must be held back, told by its predictions for photos it has not seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.engines.base import Labels
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.design import Design, Doubles
from pyflux_transfer.training.estimate import standard_error
from pyflux_transfer.training.logistic import Problem, minimise
from pyflux_transfer.training.rows import workers
from pyflux_transfer.training.temperature import log_losses

TOLERANCE = 1e-5  # of the loss: out-of-fold logits are then right to 0.1, log losses to 3e-4
STRENGTHS = 8
STRONGEST, FACTOR = 10**0.5, 10 ** (-4 / 7)  # eight strengths: 10^0.5 … 10^-3.5 over N
STRONGER, WEAKER = 4, 16  # strengths at most beyond the strongest, and from it on
RISES, GAIN = 2, 1e-3  # weaker ones cease after so many in a row that gain less than this part,
NOTHING = 0.1  # or less than these nats in all: where photos part, the loss falls for ever

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Strength:
    """How heads of one decay did on held-out photos, with standard errors over photos.

    `loss` is the log loss in nats, class weights applied, over photos whose class their fold had
    learnt; `accuracy` is the share of all held-out photos. Photos that stay together err together,
    which the errors take into account: they are cluster-robust (Liang & Zeger 1986).
    """

    decay: float
    loss: float
    loss_error: float
    accuracy: float
    accuracy_error: float


@dataclass(frozen=True)
class Validation:
    """The strengths tried, from strong to weak; the best, and what its heads said."""

    tried: tuple[Strength, ...]
    best: Strength
    logits: Array  # (N, C) float32, each photo's by the head that has not seen it; 0 where none
    held_out: Flags  # (N,) photos that one has not seen
    learnt: Flags  # (N,) those of them whose class it has seen
    heads: Doubles  # (C, K, R + 1) coordinates of the best decay's heads

    @property
    def start(self) -> Doubles:
        """Where `solve` may begin (C, 1, R + 1): the heads' mean."""
        return np.asarray(self.heads.mean(axis=1, keepdims=True))


def grid(count: int) -> list[float]:
    """Return eight decays, from strong to weak, for `count` photos: 10^0.5 … 10^-3.5 over it.

    For 150 to 1,000 photos of 15 sets nine in ten optima lay well inside.
    """
    return [STRONGEST * FACTOR**i / count for i in range(STRENGTHS)]


def cross_validate(
    design: Design,
    labels: Labels,
    classes: int,
    folds: NDArray[np.integer],
    decays: Sequence[float] | None = None,
    *,
    smoothing: float = 0.0,
    weights: Array | None = None,
    bunches: Labels | None = None,
) -> Validation:
    """Solve the heads of all folds for each decay and take the decay with the lowest log loss.

    `labels` (N,) int64 from 0; `folds` (N,) tells which head must not learn from a photo: 0 …
    K − 1, or -1 for all may. `bunches` (N,) from 0 numbers the photos, equally those that stay
    together, by default none do. Without `decays` they go from strong to weak, with the spacing of
    `grid`, until the loss has ceased to fall, by 0.1 nats over all photos or by a thousandth, and
    to stronger ones where the first was the best.
    Raises InputError where a fold is empty or holds all photos. The rule of one standard error
    was worse on unseen photos, in log loss and in accuracy.
    """
    members = _members(labels, folds, classes, design.rows.count)
    held_out = folds == np.arange(len(members))[:, None]
    problem = Problem.of(design, labels, classes, held_out, smoothing=smoothing, weights=weights)
    seen = np.bincount(labels, minlength=classes) - members  # (K, C), by each fold's head
    learnt = (folds >= 0) & (seen[folds, labels] > 0)
    value = learnt * (1.0 if weights is None else weights.astype(np.float64)[labels])

    bunches = np.arange(len(labels)) if bunches is None else bunches

    def trials(decays: Sequence[float]) -> Iterator[_Trial]:
        for decay, found in _follow(problem, decays):
            logits = _held_out_logits(design, folds, found)
            yield _Trial(_judge(decay, logits, labels, folds >= 0, value, bunches), logits, found)

    nothing = NOTHING / max(learnt.sum(), 1)
    if decays is not None:
        tried, best = _descend(trials(sorted(decays, reverse=True)), math.inf, nothing)
    else:
        first = STRONGEST / len(labels)
        weaker = [first * FACTOR**i for i in range(WEAKER)]
        tried, best = _descend(trials(weaker), RISES, nothing)
        if best.strength is tried[0]:
            beyond = [first / FACTOR**i for i in range(1, STRONGER + 1)]
            more, other = _descend(trials(beyond), 1, nothing)
            tried, best = more[::-1] + tried, min(best, other, key=lambda t: t.strength.loss)
    return Validation(
        tuple(tried), best.strength, best.logits, folds >= 0, learnt, best.coefficients
    )


@dataclass(frozen=True)
class _Trial:
    strength: Strength
    logits: Array
    coefficients: Doubles


def _members(labels: Labels, folds: NDArray[np.integer], classes: int, count: int) -> Doubles:
    """Return how many photos of each class each fold holds (K, C); refuse what cannot be solved."""
    if not len(labels) == len(folds) == count:
        raise InputError(
            "Features, labels and folds must be equally many, "
            f"got {count}, {len(labels)} and {len(folds)}."
        )
    held = folds >= 0
    members = np.zeros((max(folds.max(initial=-1) + 1, 1), classes))
    np.add.at(members, (folds[held], labels[held]), 1)
    sizes = members.sum(axis=1)
    if not sizes.all() or (sizes == count).any():
        raise InputError(
            "Each fold must hold a photo, and leave one to learn from; "
            f"got folds of {sizes.astype(int).tolist()} of {count} photos."
        )
    return members


def _follow(problem: Problem, decays: Iterable[float]) -> Iterator[tuple[float, Doubles]]:
    """Yield each decay and its optima (C, K, R + 1), starting from where the last two point to."""
    passed: list[tuple[float, Doubles]] = []
    for decay in decays:
        start = passed[-1][1] if passed else None
        if len(passed) == 2:
            (before, old), (last, new) = passed
            start = new + (new - old) * (math.log(decay / last) / math.log(last / before))
        found = minimise(problem, decay, start, TOLERANCE).coefficients
        passed = [*passed[-1:], (decay, found)]
        yield decay, found


def _held_out_logits(design: Design, folds: NDArray[np.integer], found: Doubles) -> Array:
    """Return logits (N, C) float32 of each photo by the head that must not learn from it.

    As the solved head has none, they have no mean over classes: no probability tells, energy does.
    """
    classes, count, width = found.shape
    found = found - found.mean(axis=0)
    lifted = design.lift(found.reshape(-1, width)).astype(np.float32).reshape(classes, count, -1)

    def logits(where: slice) -> Array:
        block = design.rows.read(where)
        said = np.zeros((len(block), classes), np.float32)
        for k in range(count):
            mine = folds[where] == k
            said[mine] = block[mine] @ lifted[:, k, :-1].T + lifted[:, k, -1]
        return said

    with workers() as by:
        return np.concatenate(list(by.each(logits, design.rows.blocks(classes))))


def _judge(
    decay: float, logits: Array, labels: Labels, held: Flags, value: Doubles, bunches: Labels
) -> Strength:
    """Return log loss, photos weighted by `value` (N,), and accuracy of those held out."""
    losses = log_losses(logits[held], labels[held])
    share = value[held] / max(value.sum(), np.finfo(float).tiny)
    loss = float(share @ losses)
    right = logits[held].argmax(axis=1) == labels[held]
    accuracy = float(right.mean())
    return Strength(
        decay, loss, standard_error(share * (losses - loss), bunches[held]),
        accuracy, standard_error((right - accuracy) / len(right), bunches[held]),
    )  # fmt: skip


def _descend(
    trials: Iterable[_Trial], patience: float, nothing: float
) -> tuple[list[Strength], _Trial]:
    """Try one after another until `patience` in a row gained next to nothing.

    Returns all that were tried, and the one of lowest loss with its logits.
    """
    tried, best, idle = list[Strength](), None, 0
    for trial in trials:
        tried.append(trial.strength)
        loss, lowest = trial.strength.loss, best.strength.loss if best else math.inf
        idle = 0 if lowest - loss > max(GAIN * loss, nothing) else idle + 1
        if best is None or loss < lowest:
            best = trial
        if idle >= patience:
            break
    assert best
    return tried, best
