"""The recipe: what `fit` does without options. Every photo trains, and folds judge.

The trunk is frozen and each photo passes it once. The head is the optimum of a convex problem, so
there are no epochs and no rate to choose; how much it is held back is chosen by cross-validation,
whose out-of-fold predictions also tell how good and how sure the head is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyflux_transfer.data.dataset import Dataset
from pyflux_transfer.data.folds import folds
from pyflux_transfer.engines.base import Labels, Network
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.training import loop
from pyflux_transfer.training.callbacks import Record, Timer, Watcher
from pyflux_transfer.training.design import reduce
from pyflux_transfer.training.estimate import Estimate
from pyflux_transfer.training.examples import Maker, labels_of
from pyflux_transfer.training.features import Cache
from pyflux_transfer.training.logistic import Problem, Solution, solve
from pyflux_transfer.training.options import Options, class_weights
from pyflux_transfer.training.solver import only_dense, write_dense
from pyflux_transfer.training.temperature import fit_temperature
from pyflux_transfer.training.train import Run, twice
from pyflux_transfer.training.validation import STRONGEST, Validation, cross_validate

# The options that the recipe heeds; any other says how to take steps.
HEEDED = frozenset(
    {
        "label_smoothing",
        "class_weights",
        "batch_size",
        "seed",
        "precision",
        "workers",
        "max_pixels",
        "max_skipped",
    }
)
UNJUDGED = 0.1  # of the strongest decay, where no photo can be held out: amid those usually chosen


@dataclass(frozen=True)
class HeadResult:
    """What solving the head has found; the head itself is in the network."""

    loss: float  # cross-entropy on the photos it learnt from, in nats
    decay: float
    temperature: float
    estimate: Estimate | None  # None where no photo could be held out


def linear(network: Network) -> bool:
    """Tell whether the head is one Dense layer and nothing else."""
    return [u.kind for u in network.units[resolve_cut(network.units, "head") :]] == ["dense"]


def follow(
    network: Network,
    preprocessing: Preprocessing,
    train: Dataset,
    valid: Dataset | None,
    options: Options,
    cache: Cache,
    watcher: Watcher,
) -> Run:
    """Solve the head on all training photos; validation images, where given, are told apart.

    A run that is interrupted or fails leaves the head as it was.
    """
    timer = Timer()
    same = twice(train, valid, watcher)
    network.cut_at(resolve_cut(network.units, "head"))
    maker = Maker(network, preprocessing, options, cache, timer, watcher)
    found = solve_head(maker, train)
    if valid:
        features = maker.validation(valid)
        with timer.measure("validation"):
            loss, accuracy = loop.validate(
                network, features, labels_of(valid), options.batch_size, found.temperature
            )
        watcher.line(
            f"on {len(valid.samples)} validation images: accuracy {accuracy:.1%}, "
            f"log loss {loss:.3f}"
        )
    judged = found.estimate
    record = Record(
        1, 1, found.loss, judged.log_loss if judged else None,
        judged.accuracy if judged else None, 0.0, timer.seconds["tail"],
    )  # fmt: skip
    skipped = (*train.skipped, *(valid.skipped if valid else ()))
    return Run(
        (record,), record, dict(timer.seconds), skipped, same, "finished",
        judged, found.temperature,
    )  # fmt: skip


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
                smoothing=options.label_smoothing, weights=weights,
            )  # fmt: skip
        decay = judged.best.decay if judged else UNJUDGED * STRONGEST / len(labels)
        problem = Problem.of(
            design, labels, classes, smoothing=options.label_smoothing, weights=weights
        )
        head: Solution = solve(problem, decay, judged.start if judged else None)
        temperature = _temperature(judged, labels) if judged else 1.0
        write_dense(network, name, head.weight, head.bias)
    if judged is None:
        say("no class has two different photos, so none can be held out: the head is unjudged")
        return HeadResult(head.loss, decay, temperature, None)
    best, count = judged.best, int(held.max()) + 1
    estimate = Estimate(
        best.accuracy, best.accuracy_error, best.loss, best.loss_error,
        count, decay, len(judged.tried),
    )  # fmt: skip
    tried = len(judged.tried)
    say(f"head solved on all photos; {count} folds chose the decay {decay:.2g} of {tried} tried")
    say(f"{estimate.sentence()}, log loss {best.loss:.3f}, temperature {temperature:.2f}")
    return HeadResult(head.loss, decay, temperature, estimate)


def _temperature(judged: Validation, labels: Labels) -> float:
    """Fit the temperature to the out-of-fold logits, and to one mistake more than there was.

    Where all of a few photos are right, nothing in them says that the next one could be wrong: by
    Laplace's rule of succession one of N + 1 is. That photo is as the middle one of those there
    are, and the runner-up is its class.
    """
    if not judged.learnt.any():
        return 1.0
    logits, labels = judged.logits[judged.learnt], labels[judged.learnt]
    middle = np.argsort(_margins(logits))[len(logits) // 2]
    runner_up = np.argsort(logits[middle])[-2]
    return fit_temperature(
        np.concatenate([logits, logits[middle : middle + 1]]), np.append(labels, runner_up)
    )


def _margins(logits: Array) -> Array:
    """Return by how much each row's highest logit exceeds its second (N,)."""
    two = np.sort(logits, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])
