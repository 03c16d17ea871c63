"""A head for more features than one memory holds: pieces of them in actors, sums between.

Each actor has some parts of the features' folder. The recipe's own solver asks for sums over rows,
losses, gradients, products with the curvature, and each actor makes its part of them; what crosses
the cluster is as large as the head, not as the features. The driver holds what is told of each
photo besides: its label, its folds' answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import count
from typing import Any

import numpy as np

from pyflux_transfer.classifier import Classifier
from pyflux_transfer.cluster.data import Cluster
from pyflux_transfer.cluster.kept import bare, splits
from pyflux_transfer.cluster.parts import Folder, parts_in, tidy
from pyflux_transfer.cluster.records import Record, read
from pyflux_transfer.data.dataset import Dataset
from pyflux_transfer.engines.base import Labels
from pyflux_transfer.errors import DataError
from pyflux_transfer.fitting import Fitting
from pyflux_transfer.networks.tensors import Array, Shape
from pyflux_transfer.training.callbacks import Watcher
from pyflux_transfer.training.design import Doubles, Floats
from pyflux_transfer.training.examples import Maker
from pyflux_transfer.training.features import Cache, Features, Indices
from pyflux_transfer.training.logistic import Blocks, Looked
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.recipe import Effort
from pyflux_transfer.training.rows import Rows, Workers, workers
from pyflux_transfer.training.train import Run

MEMORY_BYTES = 2**28  # features up to this size are solved for in one process


class Piece:
    """Some parts of a folder, in one process: their rows, and sums over those that train."""

    def __init__(self, place: str, names: Sequence[str]) -> None:
        folder = Folder(place)
        self._records: list[Record] = []
        values: list[Array] = []
        for name in names:
            for record in read(name, folder.read(name)):
                if record.values is not None:
                    values.append(record.values)
                self._records.append(record)
        self._records = list(bare(self._records))
        self._all = np.stack(values) if values else np.empty((0, 0), np.float32)
        self._rows = Rows(0, 0, self._all.__getitem__)
        self._blocks: Blocks | None = None
        self._chances: Any = None

    def told(self) -> list[Record]:
        """Return what the records say besides their values, in the rows' order."""
        return self._records

    def choose(self, rows: Labels) -> None:
        """Say which rows train (n,), in the order in which they are counted from here on."""
        flat = self._all.reshape(len(self._all), -1)
        if not np.array_equal(rows, np.arange(len(flat))):
            flat = flat[rows]
        self._rows = Rows(*flat.shape, flat.__getitem__)

    def take(self, rows: Labels, *, chosen: bool = True) -> Array:
        """Return rows (n, …) of those that train, or of all."""
        if chosen:
            return np.asarray(self._rows.read(rows))  # type: ignore[arg-type]
        return np.asarray(self._all[rows])

    def state(self, labels: Labels, wanted: Doubles, share: Doubles) -> None:
        """Take the problem's part for these rows."""
        self._blocks, self._chances = Blocks(self._rows, labels, wanted, share), None

    def look(self, lifted: Floats) -> tuple[Doubles, Doubles, Floats]:
        """Return this piece's part of loss, spread and slope."""
        assert self._blocks
        with workers() as by:
            loss, spread, slope, self._chances = self._blocks.look(lifted, by)
        return loss, spread, slope

    def bend(self, lifted: Floats) -> Doubles:
        """Return this piece's part of the product with the curvature, where it looked last."""
        assert self._blocks
        with workers() as by:
            return self._blocks.bending(self._chances, by)(lifted)


@dataclass
class Apart:
    """Rows in actors; `bounds` (P + 1,) say which are whose."""

    ray: Any
    actors: Sequence[Any]
    bounds: Labels

    def sums(self, labels: Labels, wanted: Doubles, share: Doubles) -> _Sums:
        """Return what sums over them for a problem; the one before is over."""
        key = (id(labels), id(wanted), id(share))
        if getattr(self, "_key", None) != key:
            self.ray.get(
                [
                    actor.state.remote(labels[a:b], wanted, share[:, a:b])
                    for actor, a, b in self._ranges()
                ]
            )
            self._key, self._held = key, (labels, wanted, share)  # as long as the key is theirs
        return _Sums(self)

    def all(self, method: str, *given: Any) -> list[Any]:
        """Return what every actor makes of the same."""
        refs = [self.ray.put(each) for each in given]
        found: list[Any] = self.ray.get(
            [getattr(actor, method).remote(*refs) for actor in self.actors]
        )
        return found

    def take(self, indices: Indices) -> Array:
        """Return rows by their numbers, from whoever has them."""
        wanted = np.asarray(indices, np.int64)
        owner = np.searchsorted(self.bounds, wanted, side="right") - 1
        mine = [np.flatnonzero(owner == i) for i in range(len(self.actors))]
        asked = [(i, some) for i, some in enumerate(mine) if len(some)]
        parts = self.ray.get(
            [self.actors[i].take.remote(wanted[some] - self.bounds[i]) for i, some in asked]
        )
        out = np.empty((len(wanted), *parts[0].shape[1:]), np.float32)
        for (_, some), part in zip(asked, parts, strict=True):
            out[some] = part
        return out

    def _ranges(self) -> Iterator[tuple[Any, int, int]]:
        for actor, a, b in zip(self.actors, self.bounds[:-1], self.bounds[1:], strict=True):
            yield actor, int(a), int(b)


@dataclass(frozen=True)
class _Sums:
    """`logistic.Sums` of all pieces together."""

    apart: Apart

    def look(self, lifted: Floats, by: Workers) -> Looked:
        del by  # each actor has threads of its own
        parts = self.apart.all("look", lifted)
        loss, spread, slope = (sum(each[i] for each in parts) for i in range(3))
        return loss, spread, slope, None

    def bending(self, chances: Any, by: Workers) -> Callable[[Floats], Doubles]:
        del chances, by  # they are where the rows are
        return lambda lifted: np.asarray(sum(self.apart.all("bend", lifted)), np.float64)


@dataclass(frozen=True)
class _PiecesMaker(Maker):
    """Makes examples of features that are computed already, in pieces."""

    found: tuple[tuple[Dataset, Features], ...] = ()

    def plain(self, dataset: Dataset) -> Features:
        """Return the features of a dataset that is known."""
        return next(features for known, features in self.found if known is dataset)

    validation = plain


def fit_head(
    model: Classifier,
    place: str,
    *,
    cluster: Cluster,
    options: Options,
    watcher: Watcher,
    memory_bytes: int = MEMORY_BYTES,
) -> tuple[Classifier, Run]:
    """Return the model with the recipe's head for features in a folder, and how it came about.

    `model` is the network that made them. Features that take no more than `memory_bytes` are solved
    for here, larger ones in the actors: equal to 1e-3, for sums are made in another order. Raises
    DataError where the photos cannot train.
    """
    tidy(place)
    with _pieces(place, cluster) as (ray, actors):
        told = ray.get([actor.told.remote() for actor in actors])
        photos = splits(record for piece in told for record in piece)
        for item in photos.left_out():
            watcher.line(item)
        headed = model.with_head(photos.train.classes, seed=options.seed)
        features = _features(ray, actors, told, "train")
        if 4 * features.count * math.prod(features.shape) <= memory_bytes:
            features = _held(ray, actors, told, "train")
        found = [(photos.train, features)]
        if photos.valid is not None:
            found.append((photos.valid, _held(ray, actors, told, "valid")))

        def made(maker: Maker) -> Maker:
            given = {field.name: getattr(maker, field.name) for field in fields(Maker)}
            return _PiecesMaker(**given, found=tuple(found))

        fitting = Fitting(headed, photos, None, options, None, False, Cache(None), watcher)
        return headed, fitting.by_recipe(Effort.of("head", None), made)


@contextmanager
def _pieces(place: str, cluster: Cluster) -> Iterator[tuple[Any, list[Any]]]:
    """Start an actor for each share of the parts; they end with the block."""
    ray = cluster.connect()
    names = parts_in(place)
    if not names:
        raise DataError(f"'{place}' holds no features.")
    number = min(cluster.count(), len(names))
    actor = ray.remote(Piece).options(num_cpus=cluster.cpus, scheduling_strategy="SPREAD")
    actors = [actor.remote(place, names[i::number]) for i in range(number)]
    try:
        yield ray, actors
    finally:
        for each in actors:
            ray.kill(each)


def _rows(told: Sequence[Record], split: str) -> Labels:
    """Return the rows (n,) of a split's readable photos, among a piece's readable ones."""
    numbers, rows = count(), []
    for record in told:
        if record.reason is None:
            row = next(numbers)
            if (record.more.get("split") or "train") == split:
                rows.append(row)
    return np.array(rows, np.int64)


def _features(ray: Any, actors: Sequence[Any], told: Sequence[Any], split: str) -> Features:
    """Return a split's features, which stay in the actors."""
    rows = [_rows(piece, split) for piece in told]
    ray.get([actor.choose.remote(mine) for actor, mine in zip(actors, rows, strict=True)])
    bounds = np.cumsum([0, *map(len, rows)])
    apart = Apart(ray, actors, bounds)
    first = next(i for i, mine in enumerate(rows) if len(mine))
    shape: Shape = ray.get(actors[first].take.remote(rows[first][:1], chosen=False)).shape[1:]
    return Features(shape, int(bounds[-1]), apart.take, apart)


def _held(ray: Any, actors: Sequence[Any], told: Sequence[Any], split: str) -> Features:
    """Return a split's features, in this process's memory."""
    asked = [actor.take.remote(_rows(piece, split), chosen=False)
             for actor, piece in zip(actors, told, strict=True)]  # fmt: skip
    parts = [part for part in ray.get(asked) if len(part)]
    whole = np.concatenate(parts)
    return Features(whole.shape[1:], len(whole), lambda rows: whole[np.asarray(rows, np.intp)])
