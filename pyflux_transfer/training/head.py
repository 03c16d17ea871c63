"""The head, solved: the trunk is frozen, and each photo passes it once.

The head is the optimum of a convex problem, so there are no epochs and no rate to choose. How much
it is held back is chosen by cross-validation, whose out-of-fold predictions also tell how good and
how sure the head is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyflux_transfer.data.dataset import Dataset
from pyflux_transfer.data.folds import bunches, folds
from pyflux_transfer.engines.base import Network
from pyflux_transfer.insight.belonging import Belonging
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.training.callbacks import Watcher
from pyflux_transfer.training.design import Design, reduce
from pyflux_transfer.training.estimate import Estimate
from pyflux_transfer.training.examples import Maker, labels_of
from pyflux_transfer.training.features import Features
from pyflux_transfer.training.logistic import Problem, original, solve
from pyflux_transfer.training.options import class_weights
from pyflux_transfer.training.solver import only_dense, write_dense
from pyflux_transfer.training.validation import STRONGEST, Validation, cross_validate
from pyflux_transfer.training.verdict import Answers, Ints, Start, Truth, estimated

UNJUDGED = 0.1  # of the strongest decay, where no photo can be held out: amid those usually chosen


@dataclass(frozen=True)
class HeadResult:
    """What solving the head has found; the head itself is in the network."""

    loss: float  # cross-entropy on the photos it learnt from, in nats
    decay: float
    temperature: float
    estimate: Estimate | None  # None where no photo could be held out
    start: Start | None = None  # from which training goes on deeper; None likewise
    answers: Answers | None = None  # to the photos held out, of the model as it is now; likewise
    belonging: Belonging | None = None  # where it was asked for


def linear(network: Network) -> bool:
    """Tell whether the head is one Dense layer and nothing else."""
    return [u.kind for u in network.units[resolve_cut(network.units, "head") :]] == ["dense"]


def solve_head(maker: Maker, train: Dataset, features: Features | None = None) -> HeadResult:
    """Choose the decay by folds, solve the head on all photos and write it into the network.

    `features` are those of the photos as they are, where they are known.
    """
    network, options = maker.network, maker.options
    name = only_dense(network.units[network.cut :])
    labels, classes = labels_of(train), len(train.classes)
    weights = class_weights(options.class_weights, labels, train.classes)
    smoothing = options.label_smoothing
    if features is None:
        features = maker.plain(train)
    with maker.timer.measure("tail"):
        design, held, together = reduce(features), folds(train, seed=options.seed), bunches(train)
        judged: Validation | None = None
        if held.max() > 0:
            judged = cross_validate(
                design, labels, classes, held,
                smoothing=smoothing, weights=weights, bunches=together,
            )  # fmt: skip
        decay = judged.best.decay if judged else UNJUDGED * STRONGEST / len(labels)
        problem = Problem.of(design, labels, classes, smoothing=smoothing, weights=weights)
        head = solve(problem, decay, judged.start if judged else None)
        found = HeadResult(head.loss, decay, 1.0, None)
        if judged:
            found = _judged(found, judged, design, held, Truth(labels, together, weights))
        write_dense(network, name, head.weight, head.bias)
    _tell(found, held, maker.watcher)
    return found


def _judged(
    found: HeadResult, judged: Validation, design: Design, held: Ints, truth: Truth
) -> HeadResult:
    """Add what the folds' heads say of the photos that they have not seen."""
    known, count = np.flatnonzero(judged.learnt), int(held.max()) + 1
    answers = Answers.of(truth, known, judged.logits[known])
    heads = [original(design, judged.heads[:, k]) for k in range(count)]
    return HeadResult(
        found.loss, found.decay, answers.temperature,
        estimated(answers, count, found.decay, len(judged.tried)),
        Start(truth, held, judged.learnt, judged.logits, heads), answers,
    )  # fmt: skip


def _tell(found: HeadResult, held: Ints, watcher: Watcher) -> None:
    estimate = found.estimate
    if not estimate:
        watcher.line(
            "no class has two different photos (or groups), so none can be held out: "
            "the head is unjudged"
        )
        return
    if line := unjudged(held):
        watcher.line(line)
    watcher.line(
        f"head solved on all photos; {estimate.folds} folds chose the decay {found.decay:.2g} of "
        f"{estimate.tried} tried"
    )
    watcher.line(
        f"{estimate.sentence()}, log loss {estimate.log_loss:.3f}, "
        f"temperature {found.temperature:.2f}"
    )


def unjudged(held: Ints) -> str | None:
    """Return a line about photos that no fold holds out, None where there are none."""
    count = int((held < 0).sum())
    if not count:
        return None
    are = "photo is" if count == 1 else "photos are"
    return f"{count} {are} not judged: a class has no other photos, or no other group"
