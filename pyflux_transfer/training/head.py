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
from pyflux_transfer.engines.base import Labels, Network
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.training.design import reduce
from pyflux_transfer.training.estimate import Estimate
from pyflux_transfer.training.examples import Maker, labels_of
from pyflux_transfer.training.logistic import Problem, original, solve
from pyflux_transfer.training.options import class_weights
from pyflux_transfer.training.solver import only_dense, write_dense
from pyflux_transfer.training.validation import STRONGEST, Validation, cross_validate
from pyflux_transfer.training.verdict import Answers, Start, Truth, estimated

UNJUDGED = 0.1  # of the strongest decay, where no photo can be held out: amid those usually chosen


@dataclass(frozen=True)
class HeadResult:
    """What solving the head has found; the head itself is in the network."""

    loss: float  # cross-entropy on the photos it learnt from, in nats
    decay: float
    temperature: float
    estimate: Estimate | None  # None where no photo could be held out
    start: Start | None = None  # from which training goes on deeper; None likewise


def linear(network: Network) -> bool:
    """Tell whether the head is one Dense layer and nothing else."""
    return [u.kind for u in network.units[resolve_cut(network.units, "head") :]] == ["dense"]


def solve_head(maker: Maker, train: Dataset) -> HeadResult:
    """Choose the decay by folds, solve the head on all photos and write it into the network."""
    network, options, say = maker.network, maker.options, maker.watcher.line
    name = only_dense(network.units[network.cut :])
    labels, classes = labels_of(train), len(train.classes)
    weights = class_weights(options.class_weights, labels, train.classes)
    features = maker.plain(train)
    with maker.timer.measure("tail"):
        design = reduce(features)
        held = folds(train, seed=options.seed)
        judged: Validation | None = None
        if held.max() > 0:
            judged = cross_validate(
                design, labels, classes, held,
                smoothing=options.label_smoothing, weights=weights, bunches=bunches(train),
            )  # fmt: skip
        decay = judged.best.decay if judged else UNJUDGED * STRONGEST / len(labels)
        problem = Problem.of(
            design, labels, classes, smoothing=options.label_smoothing, weights=weights
        )
        head = solve(problem, decay, judged.start if judged else None)
        write_dense(network, name, head.weight, head.bias)
    if judged is None:
        say("no class has two different photos (or groups), so none can be held out: "
            "the head is unjudged")  # fmt: skip
        return HeadResult(head.loss, decay, 1.0, None)
    if line := unjudged(held):
        say(line)
    count, tried = int(held.max()) + 1, len(judged.tried)
    truth = Truth(labels, bunches(train), weights)
    known = np.flatnonzero(judged.learnt)
    answers = Answers.of(truth, known, judged.logits[known])
    estimate = estimated(answers, count, decay, tried)
    say(f"head solved on all photos; {count} folds chose the decay {decay:.2g} of {tried} tried")
    say(f"{estimate.sentence()}, log loss {estimate.log_loss:.3f}")
    heads = [original(design, judged.heads[:, k]) for k in range(count)]
    start = Start(truth, held, judged.learnt, judged.logits, heads)
    return HeadResult(head.loss, decay, answers.temperature, estimate, start)


def unjudged(held: Labels) -> str | None:
    """Return a line about photos that no fold holds out, None where there are none."""
    count = int((held < 0).sum())
    if not count:
        return None
    return f"{count} photo(s) are not judged: a class has no other photos, or no other group"
