"""Training examples as the tail wants them: kept features, or images augmented anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from pyflux_transfer.data.augment import augmenter
from pyflux_transfer.data.batches import batches
from pyflux_transfer.data.dataset import CHECKED, Dataset, read_sample
from pyflux_transfer.data.decode import decode
from pyflux_transfer.data.preprocess import load
from pyflux_transfer.engines.base import Labels, Network
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.callbacks import Timer, Watcher
from pyflux_transfer.training.features import Cache, Features, Item, extract
from pyflux_transfer.training.options import Options

Batch = tuple[Array, Labels]


class Examples(Protocol):
    """What the loop trains on: the trunk's output and labels, epoch by epoch."""

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
        draw = np.random.default_rng((self.options.seed, number, 1))
        drawn = draw.integers(views, size=self.count)
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


def labels_of(dataset: Dataset) -> Labels:
    """Return the labels (N,) int64 of a dataset."""
    return np.array([sample.label for sample in dataset.samples], np.int64)


@dataclass(frozen=True)
class Maker:
    """Makes examples out of datasets, for a network at its present cut."""

    network: Network
    preprocessing: Preprocessing
    options: Options
    cache: Cache
    timer: Timer
    watcher: Watcher
    told: bool = True  # what comes from the cache, and how long the rest takes

    def validation(self, dataset: Dataset) -> Features:
        """Return the features of the images as they are."""
        return self._extract(_plain(dataset), self._read, "validation features")

    def plain(self, dataset: Dataset) -> Features:
        """Return the features of training images as they are."""
        return self._extract(_plain(dataset), self._read, "training features")

    def onward(self, dataset: Dataset, cut: int) -> Features:
        """Return the same as `plain`, computed from the features at a cut before the present one.

        Where those are needed as well, no photo passes the first units twice.
        """
        network, end = self.network, self.network.cut
        network.cut_at(cut)
        try:
            begun = self.plain(dataset)
        finally:
            network.cut_at(end)
        items = _plain(dataset)
        place = {item.key: index for index, item in enumerate(items)}
        return extract(
            network, self.preprocessing, items, lambda item: begun.take([place[item.key]])[0],
            self.cache, batch_size=self.options.batch_size, workers=1, timer=self.timer,
            watcher=self.watcher, title="features of the head", told=False,
            embed=lambda x: network.apply(x, cut, end),
        )  # fmt: skip

    def training(self, dataset: Dataset) -> Examples:
        """Return kept features, of `views` augmentations where asked for, or live augmentation."""
        options = self.options
        augment = augmenter(options.augment, self.preprocessing)
        if augment is None:
            return Cached(self.plain(dataset), labels_of(dataset), options)

        def read(item: Item, rng: np.random.Generator) -> Array:
            decoded = partial(
                decode,
                max_pixels=CHECKED,
                background=self.preprocessing.background,
                shorter_side=self.preprocessing.resize,
            )
            return augment(read_sample(item.sample, decoded), rng)

        if not options.views:
            return Live(_plain(dataset), read, self.network, options, self.timer)

        def read_view(item: Item) -> Array:
            return read(item, np.random.default_rng(np.frombuffer(item.key, np.uint32)))

        spec = options.to_json()["augment"]
        items = [
            Item(sample, f"{spec}:{options.seed}:{view}")
            for sample in dataset.samples
            for view in range(options.views)
        ]
        features = self._extract(items, read_view, "augmented features")
        return Cached(features, labels_of(dataset), options)

    def _read(self, item: Item) -> Array:
        return read_sample(
            item.sample, partial(load, preprocessing=self.preprocessing, max_pixels=CHECKED)
        )

    def _extract(
        self, items: Sequence[Item], read: Callable[[Item], Array], title: str
    ) -> Features:
        return extract(
            self.network, self.preprocessing, items, read, self.cache,
            batch_size=self.options.batch_size, workers=self.options.workers,
            timer=self.timer, watcher=self.watcher, title=title, told=self.told,
        )  # fmt: skip


def _plain(dataset: Dataset) -> list[Item]:
    return [Item(sample) for sample in dataset.samples]
