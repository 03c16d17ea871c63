"""The training loop: the one place where steps are taken. It yields a record an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from pyflux_transfer.engines.base import Labels, Network, tail_stages
from pyflux_transfer.errors import TrainingError
from pyflux_transfer.insight.metrics import log_loss
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.predict import softmax
from pyflux_transfer.training.callbacks import Record, Timer
from pyflux_transfer.training.examples import Examples, steps_an_epoch
from pyflux_transfer.training.features import Features
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.plan import Phase
from pyflux_transfer.training.schedule import rates

Validate = Callable[[], tuple[float, float] | None]


def run_phase(
    network: Network,
    phase: Phase,
    examples: Examples,
    validate: Validate,
    options: Options,
    weights: Array | None,
    timer: Timer,
    *,
    number: int,
    before: int,
    done: int = 0,
) -> Iterator[Record]:
    """Train the tail for a phase, yielding a record an epoch; whoever iterates may cease.

    `before` counts the epochs of earlier phases, `done` those of this one that a resumed run has
    behind it. `validate` returns loss and accuracy. Training that diverges raises TrainingError.
    """
    steps = steps_an_epoch(examples.count, options)
    stages = tail_stages(network.units, network.cut)
    rate = rates(options.schedule, phase.lr, options.lr_decay, stages, steps * phase.epochs)
    for epoch in range(done, phase.epochs):
        start = time.perf_counter()
        losses, seen, now = 0.0, 0, {stages[-1]: phase.lr}
        for index, (x, y) in enumerate(examples.epoch(before + epoch)):
            now = rate(epoch * steps + index)
            with timer.measure("tail"):
                loss = network.step(x, y, now, weights)
            if not math.isfinite(loss):
                raise diverged(f"The loss became {loss}", before + epoch + 1, phase.lr)
            losses, seen = losses + loss * len(y), seen + len(y)
        with timer.measure("tail"):  # no loss has been seen since the last step
            if not all(np.isfinite(value).all() for value in network.state(network.cut).values()):
                raise diverged("The weights became infinite", before + epoch + 1, phase.lr)
        with timer.measure("validation"):
            valid = validate()
        if valid and not math.isfinite(valid[0]):
            raise diverged(f"The validation loss became {valid[0]}", before + epoch + 1, phase.lr)
        yield Record(
            phase=number,
            epoch=before + epoch + 1,
            train_loss=losses / seen,
            valid_loss=valid and valid[0],
            valid_accuracy=valid and valid[1],
            lr=now[stages[-1]],
            seconds=time.perf_counter() - start,
        )


def logits(network: Network, features: Features, batch_size: int) -> Array:
    """Return the tail's logits (N, classes) for kept features."""
    count = features.count
    parts = [range(i, min(i + batch_size, count)) for i in range(0, count, batch_size)]
    return np.concatenate([network.logits(features.take(part)) for part in parts])


def validate(
    network: Network, features: Features, labels: Labels, batch_size: int, temperature: float = 1.0
) -> tuple[float, float]:
    """Return log loss and accuracy of the tail on kept features."""
    with np.errstate(over="ignore", invalid="ignore"):  # the caller is told by the loss
        probabilities = softmax(logits(network, features, batch_size), temperature)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return log_loss(probabilities, labels), accuracy


def diverged(what: str, epoch: int, lr: float) -> TrainingError:
    """Return the error that says what happened, at which rate, and to lower it."""
    return TrainingError(
        f"{what} in epoch {epoch} at the learning rate {lr:g}. Lower it, for instance "
        f"lr={lr / 10:g}."
    )
