"""Belonging, learnt beside a classifier: from features of its photos, and of photos held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyflux_transfer.data.dataset import Dataset
from pyflux_transfer.engines.base import Network
from pyflux_transfer.insight.belonging import Belonging, held_out, learn, some, unseen
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.training.examples import Maker
from pyflux_transfer.training.features import Features
from pyflux_transfer.training.verdict import Ints, Start

FEWER = 1024  # photos are enough where each has to pass what was trained once more


def by_folds(features: Features, start: Start) -> Belonging:
    """Learn from the features that the head was solved on; its folds place the threshold."""
    chosen = some(features.count, int(np.prod(features.shape)))
    rows = features.take(chosen).reshape(len(chosen), -1)
    scores = held_out(rows, start.folds[chosen])
    known = start.learnt[chosen] & np.isfinite(scores)
    return Belonging.of(learn(rows), scores[known], start.logits[chosen][known])


def of_others(maker: Maker, train: Dataset, start: Start, photos: Ints, fold: int) -> Array:
    """Return the cosines of photos (M,) of a fold, as if the space were learnt from all others.

    It is learnt from those of the other folds, by the network as it is.
    """
    width = _width(maker.network, maker.preprocessing.crop)
    rest = np.flatnonzero(start.folds != fold)
    rest = rest[some(len(rest), width, FEWER)]
    beside = start.folds[rest] == (fold + 1) % (int(start.folds.max()) + 1)
    whole = len(some(len(train.samples), width))
    asked, learnt = (_at_head(maker, _part(train, rows)) for rows in (photos, rest))
    return unseen(asked, learnt, beside, whole)


def told_by(maker: Maker, train: Dataset, cosines: Array, logits: Array) -> Belonging:
    """Learn from the photos by the network as it is; cosines (M,), logits (M, C) without them."""
    width = _width(maker.network, maker.preprocessing.crop)
    chosen = some(len(train.samples), width)
    return Belonging.of(learn(_at_head(maker, _part(train, chosen))), cosines, logits)


def by_validation(maker: Maker, train: Dataset, valid: Dataset) -> Belonging | None:
    """Learn from training photos; validation photos place the threshold. None of too few photos."""
    width = _width(maker.network, maker.preprocessing.crop)
    learnt = some(len(train.samples), width, FEWER)
    judges = some(len(valid.samples), width, FEWER)
    if len(learnt) < 2:
        return None
    space = learn(_at_head(maker, _part(train, learnt)))
    features, network = _at_head(maker, _part(valid, judges)), maker.network
    head = resolve_cut(network.units, "head")
    logits = network.apply(features, head, len(network.units))
    return Belonging.of(space, space.score(features), logits)


def _at_head(maker: Maker, dataset: Dataset) -> Array:
    """Return what comes to the head (N, D) of photos as they are, by the present weights."""
    network, size = maker.network, maker.options.batch_size
    features, head = maker.plain(dataset), resolve_cut(network.units, "head")
    parts = []
    for at in range(0, features.count, size):
        x = features.take(range(at, min(at + size, features.count)))
        x = network.apply(x, network.cut, head) if network.cut < head else x
        parts.append(x)
    return np.concatenate(parts)


def _width(network: Network, crop: int) -> int:
    head = resolve_cut(network.units, "head")
    return int(np.prod(network.trace((1, 3, crop, crop))[head - 1].output))


def _part(dataset: Dataset, rows: Ints) -> Dataset:
    return replace(dataset, samples=tuple(dataset.samples[i] for i in rows))
