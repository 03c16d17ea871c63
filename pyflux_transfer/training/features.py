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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray

from pyflux_transfer._version import __version__
from pyflux_transfer.data.batches import batches
from pyflux_transfer.data.dataset import Sample
from pyflux_transfer.data.decode import REVISION
from pyflux_transfer.engines.base import Network
from pyflux_transfer.errors import StorageError
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import Array, Shape
from pyflux_transfer.storage import features_folder
from pyflux_transfer.training import store as stores
from pyflux_transfer.training.callbacks import Silent, Timer, Watcher
from pyflux_transfer.training.shelves import Shelves
from pyflux_transfer.training.store import Store

# Small: the system keeps files that are read again in memory by itself, and memory shall not grow
# with the photos. Reading takes a thousandth of a step's time.
MEMORY_BYTES = 2**23
Indices = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
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
    """What the trunk made of a list of items: `take(indices)` gives rows, from memory or disk.

    `apart` is as in `rows.Rows`.
    """

    shape: Shape
    count: int
    take: Callable[[Indices], Array]
    apart: Any = None


@dataclass(frozen=True)
class Cache:
    """Where features are kept: `folder=None` keeps nothing between runs.

    Up to `memory_bytes` are held in memory, more are read from the file batch by batch. Where
    another run is writing the same features, `wait_s` says how long to wait for them.
    """

    folder: Path | None
    memory_bytes: int = MEMORY_BYTES
    disk_bytes: int = stores.DISK_BYTES
    wait_s: float = 0.0

    @classmethod
    def of(cls, given: bool | Cache) -> Cache:
        """Return where features are kept: the user's cache folder for True, nowhere for False."""
        if isinstance(given, Cache):
            return given
        return cls(features_folder() if given else None)

    @contextlib.contextmanager
    def lasting(self) -> Iterator[Cache]:
        """Give a cache that keeps features at least for as long as the context lasts."""
        if self.folder is not None:
            yield self
            return
        with tempfile.TemporaryDirectory(prefix="pyflux-features-") as folder:
            yield replace(self, folder=Path(folder))


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
        "version": __version__,  # another may compute otherwise
        "decoder": REVISION,
        "units": [f"{u.name}:{u.kind}:{u.options}:{u.body}" for u in network.units[: network.cut]],
        "weights": fingerprint(trunk_tensors(network)),
        "preprocessing": preprocessing.to_json(),
        "engine": network.engine,
        "device": network.device.split(":")[0],
        "precision": network.precision,
        "arithmetic": network.arithmetic,
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
    told: bool = True,
    embed: Callable[[Array], Array] | None = None,
) -> Features:
    """Return the features of the items, in their order, computing only those not yet kept.

    `load` reads one item as a preprocessed image (3, H, W), or as what `embed` makes features of in
    the trunk's place. The returned object may read from an open file as long as it lives. Unless
    `told`, only trouble is.
    """
    bar = watcher.bar if told else Silent().bar
    side = preprocessing.crop
    shape: Shape = (3, side, side)
    if network.cut:
        shape = network.trace((1, 3, side, side))[network.cut - 1].output[1:]
    keys = [item.key for item in items]
    with contextlib.ExitStack() as stack:
        shelves = _shelves(stack, cache, network, preprocessing, shape, keys, watcher)
        with timer.measure("cache"):
            bad = shelves.damaged(keys)
        if bad:
            watcher.line(f"{title}: {bad} kept rows were damaged and are computed anew")
        first = {key: i for i, key in enumerate(keys) if key not in shelves}
        missing = [items[i] for i in first.values()]
        kept = len(items) - len(missing)
        if kept and told:
            watcher.line(f"{title}: {kept} of {len(items)} from the feature cache")
        try:
            if missing:
                with bar(title, len(missing)) as advance:
                    labelled = batches(load, missing, batch_size, workers=workers)
                    done = iter(first)
                    for images, _ in timer.waiting("decode", labelled):
                        with timer.measure("trunk"):
                            rows = (embed or network.embed)(images)
                        with timer.measure("cache"):
                            shelves.append([next(done) for _ in rows], rows)
                        advance(len(rows))
        finally:
            shelves.flush()
        with timer.measure("cache"):
            return _held(shelves, keys, cache)


def _held(shelves: Shelves, keys: list[bytes], cache: Cache) -> Features:
    """Hold the rows in memory where they fit, else read them from the file when asked."""
    if 4 * math.prod(shelves.shape) * len(keys) > cache.memory_bytes:

        def read(indices: Indices) -> Array:
            return shelves.read([keys[i] for i in indices])

        return Features(shelves.shape, len(keys), read)
    rows = shelves.read(keys)
    shelves.close()
    return Features(shelves.shape, len(keys), lambda indices: rows[np.asarray(indices, np.intp)])


def _shelves(
    stack: contextlib.ExitStack,
    cache: Cache,
    network: Network,
    preprocessing: Preprocessing,
    shape: Shape,
    keys: list[bytes],
    watcher: Watcher,
) -> Shelves:
    """Return where rows go: the kept store, locked, where it can be had and has room."""
    shelves = Shelves(shape, watcher)
    if cache.folder is not None:
        name = trunk_key(network, preprocessing)
        try:
            if _has_room(cache.folder, name, cache.disk_bytes, shape, set(keys)):
                cache.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(stores.lock(cache.folder / name).acquire(timeout=cache.wait_s))
                shelves.kept = Store(cache.folder / name, shape)
        except Timeout:
            watcher.line("the feature cache is in use by another run: features are not kept")
        except (OSError, StorageError) as error:
            watcher.line(f"the feature cache cannot be used ({error}): features are not kept")
    return shelves


def _has_room(folder: Path, name: str, limit_bytes: int, shape: Shape, keys: set[bytes]) -> bool:
    """Make room for the rows the store lacks, if need be by giving up those of other images."""
    row = 4 * math.prod(shape) + stores.BESIDE_BYTES
    missing = len(keys - stores.stored(folder / name))
    room = partial(stores.make_room, folder, limit_bytes=limit_bytes)
    return room(missing * row, keep=name) or room(len(keys) * row)
