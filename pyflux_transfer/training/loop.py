"""The training loop: the one place where steps are taken. It yields a record an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyflux_transfer.data.batches import batches
from pyflux_transfer.engines.base import Array, Labels, Network, tail_stages
from pyflux_transfer.errors import TrainingError
from pyflux_transfer.metrics import log_loss
from pyflux_transfer.predict import softmax
from pyflux_transfer.training.callbacks import Record, Timer
from pyflux_transfer.training.features import Features, Item
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.plan import Phase
from pyflux_transfer.training.schedule import rates

Batch = tuple[Array, Labels]
Validate = Callable[[], tuple[float, float] | None]


class Examples(Protocol):
    """Training examples as the tail wants them: the trunk's output and labels, epoch by epoch."""

    @property
    def count(self) -> int:
        """Images in an epoch."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the shuffled batches of an epoch; the order depends on seed and number alone."""


@dataclass(frozen=True)
class Cached:
    """Examples whose features are kept; with several views an image, each epoch draws one."""

    features: Features
    labels: Labels
    options: Options

    @property
    def count(self) -> int:
        """Images."""
        return len(self.labels)

    @property
    def views(self) -> int:
        """Rows of features an image."""
        return self.features.count // self.count

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the epoch's batches from the cache."""
        views = self.views
        drawn = np.random.default_rng((self.options.seed, number, 1)).integers(
            views, size=self.count
        )
        for rows in shuffled(self.count, self.options, number):
            yield self.features.take(rows * views + drawn[rows]), self.labels[rows]


@dataclass(frozen=True)
class Live:
    """Examples that are augmented anew each epoch, and so pass the trunk each time."""

    items: Sequence[Item]
    load: Callable[[Item, np.random.Generator], Array]
    network: Network
    options: Options
    timer: Timer

    @property
    def count(self) -> int:
        """Images."""
        return len(self.items)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the epoch's batches, decoded and augmented in threads ahead of the trunk."""
        rows = list(shuffled(self.count, self.options, number))
        order = [self.items[i] for i in np.concatenate(rows)]

        def read(item: Item) -> Array:
            seed = int(item.sample.digest[:16], 16)
            return self.load(item, np.random.default_rng((self.options.seed, number, seed)))

        size = self.options.batch_size
        loaded = batches(read, order, size, workers=self.options.workers)
        for images, labels in self.timer.waiting("decode", loaded):
            with self.timer.measure("trunk"):
                features = self.network.embed(images)
            yield features, labels


def shuffled(count: int, options: Options, number: int) -> Iterator[Labels]:
    """Yield the indices of each batch of an epoch.

    A last batch of a single example is left out: BatchNorm has no statistics of one value.
    """
    order = np.random.default_rng((options.seed, number)).permutation(count)
    for start in range(0, count, options.batch_size):
        rows = order[start : start + options.batch_size]
        if len(rows) > 1 or count == 1 or options.batch_size == 1:
            yield rows


def steps_an_epoch(count: int, options: Options) -> int:
    """Return how many batches `shuffled` yields."""
    return sum(1 for _ in shuffled(count, options, 0))


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
    behind it. `validate` returns loss and accuracy. A loss that is not a number raises
    TrainingError.
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
            _refuse_nan(loss, before + epoch + 1, index, now)
            losses, seen = losses + loss * len(y), seen + len(y)
        with timer.measure("validation"):
            valid = validate()
        yield Record(
            phase=number,
            epoch=before + epoch + 1,
            train_loss=losses / seen,
            valid_loss=valid and valid[0],
            valid_accuracy=valid and valid[1],
            lr=now[stages[-1]],
            seconds=time.perf_counter() - start,
        )


def validate(
    network: Network, features: Features, labels: Labels, batch_size: int
) -> tuple[float, float]:
    """Return log loss and accuracy of the tail on kept features."""
    probabilities = np.concatenate(
        [
            softmax(network.logits(features.take(range(i, min(i + batch_size, len(labels))))))
            for i in range(0, len(labels), batch_size)
        ]
    )
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return log_loss(probabilities, labels), accuracy


def _refuse_nan(loss: float, epoch: int, step: int, rates: Mapping[str, float]) -> None:
    if not math.isfinite(loss):
        rate = max(rates.values())
        raise TrainingError(
            f"The loss became {loss} in epoch {epoch}, step {step + 1}, at learning rate "
            f"{rate:.3g}. Lower it, for instance lr={rate / 10:.1g}."
        )
