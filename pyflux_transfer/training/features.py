"""The feature cache: each image passes a frozen trunk once.

Rows are kept under a key of the image's content and augmentation, in a store whose name is a
digest of everything that made them: trunk weights, cut, preprocessing, engine, precision.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray

from pyflux_transfer.catalog import Preprocessing
from pyflux_transfer.data.batches import batches
from pyflux_transfer.data.dataset import Sample
from pyflux_transfer.engines.base import Array, Network, Shape
from pyflux_transfer.training import store as stores
from pyflux_transfer.training.callbacks import Timer, Watcher
from pyflux_transfer.training.store import Store

MEMORY_BYTES = 2**30
Indices = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True)
class Item:
    """One image to embed: `view` tells augmented versions of it apart, "" is the plain one."""

    sample: Sample
    view: str = ""

    @property
    def label(self) -> int:
        """The image's class."""
        return self.sample.label

    @property
    def key(self) -> bytes:
        """Digest of the file's content and the view."""
        return hashlib.sha256(f"{self.sample.digest}|{self.view}".encode()).digest()


@dataclass(frozen=True)
class Features:
    """What the trunk made of a list of items: `take(indices)` gives rows, from memory or disk."""

    shape: Shape
    count: int
    take: Callable[[Indices], Array]


@dataclass(frozen=True)
class Cache:
    """Where features are kept: `folder=None` keeps nothing between runs.

    Up to `memory_bytes` are held in memory, more are read from the file batch by batch.
    """

    folder: Path | None
    memory_bytes: int = MEMORY_BYTES
    disk_bytes: int = stores.DISK_BYTES


def fingerprint(tensors: Mapping[str, Array]) -> str:
    """Return a digest of names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}{tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def trunk_tensors(network: Network) -> dict[str, Array]:
    """Return the tensors of the units before the cut."""
    names = {name for unit in network.units[: network.cut] for name in unit.tensors}
    return {name: value for name, value in network.state().items() if name in names}


def trunk_key(network: Network, preprocessing: Preprocessing) -> str:
    """Return the store's name: a digest of all that decides the trunk's output."""
    made_by = {
        "units": [f"{u.name}:{u.kind}:{u.options}" for u in network.units[: network.cut]],
        "weights": fingerprint(trunk_tensors(network)),
        "preprocessing": preprocessing.to_json(),
        "engine": network.engine,
        "device": network.device.split(":")[0],
        "precision": network.precision,
    }
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:32]


def extract(
    network: Network,
    preprocessing: Preprocessing,
    items: Sequence[Item],
    load: Callable[[Item], Array],
    cache: Cache,
    *,
    batch_size: int,
    workers: int,
    timer: Timer,
    watcher: Watcher,
    title: str,
) -> Features:
    """Return the features of the items, in their order, computing only those not yet kept.

    `load` reads one item as a preprocessed image (3, H, W). The returned object may read from an
    open file as long as it lives.
    """
    side = preprocessing.crop
    shape: Shape = (3, side, side)
    if network.cut:
        shape = network.trace((1, 3, side, side))[network.cut - 1].output[1:]
    keys = [item.key for item in items]
    with _writable(network, preprocessing, cache, shape, len(items)) as store:
        first = {key: i for i, key in enumerate(keys) if key not in store.index}
        missing = [items[i] for i in first.values()]
        kept = len(items) - len(missing)
        if kept:
            watcher.line(f"{title}: {kept} of {len(items)} from the feature cache")
        if missing:
            with watcher.bar(title, len(missing)) as advance:
                labelled = batches(load, missing, batch_size, workers=workers)
                done = iter(first)
                for images, _ in timer.waiting("decode", labelled):
                    with timer.measure("trunk"):
                        rows = network.embed(images)
                    store.append([next(done) for _ in rows], rows)
                    advance(len(rows))
        with timer.measure("cache"):
            return _held(store, keys, cache)


def _held(store: Store, keys: list[bytes], cache: Cache) -> Features:
    """Hold the rows in memory where they fit, else read them from the file when asked."""
    if 4 * math.prod(store.shape) * len(keys) > cache.memory_bytes:

        def read(indices: Indices) -> Array:
            return store.read([keys[i] for i in indices])

        return Features(store.shape, len(keys), read)
    rows = store.read(keys)
    store.close()
    return Features(store.shape, len(keys), lambda indices: rows[np.asarray(indices, np.intp)])


@contextlib.contextmanager
def _writable(
    network: Network, preprocessing: Preprocessing, cache: Cache, shape: Shape, count: int
) -> Iterator[Store]:
    """Open the store between runs; a temporary one where there is none, no room, or it is taken."""
    needed = count * (4 * math.prod(shape) + stores.KEY_BYTES)
    if cache.folder is not None:
        name = trunk_key(network, preprocessing)
        if stores.make_room(cache.folder, needed, cache.disk_bytes, keep=name):
            cache.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(Timeout), stores.lock(cache.folder / name).acquire(timeout=0):
                yield Store(cache.folder / name, shape)
                return
    # The open files keep the rows readable after the folder is gone.
    with tempfile.TemporaryDirectory(prefix="pyflux-features-") as folder:
        yield Store(Path(folder), shape)
