"""Features from parts into the store that `train` reads, and the data set they are of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from pyflux_transfer.cluster.merge import alike, records
from pyflux_transfer.cluster.records import Record
from pyflux_transfer.data.dataset import Dataset, Sample, Skipped, Splits
from pyflux_transfer.data.splitnames import SPLITS, TRAIN
from pyflux_transfer.errors import DataError, InputError
from pyflux_transfer.storage import features_folder
from pyflux_transfer.training import store as stores
from pyflux_transfer.training.features import Item
from pyflux_transfer.training.store import Store

_ROWS = 1024  # appended at a time


def into_cache(places: Sequence[str], folder: Path | None = None, name: str | None = None) -> int:
    """Add features to the cache in `folder`, by default the user's; return how many were new.

    They go under the name that their machine's arithmetic gives them, or all under `name`. Only a
    few parts are in memory at a time. Raises InputError for parts that hold no features.
    """
    meta, folder = alike(places), folder or features_folder()
    if meta["values"] != "features":
        raise InputError("These folders hold predictions. Only `features` writes what is cached.")
    added = 0
    found = (record for record in records(places) if record.values is not None)
    while some := list(islice(found, _ROWS)):
        by_store: defaultdict[str, list[Record]] = defaultdict(list)
        for record in some:
            by_store[name or str(record.more["store"])].append(record)
        for store, rows in by_store.items():
            added += _append(folder / store, tuple(meta["shape"]), rows)
    return added


def _append(place: Path, shape: tuple[int, ...], rows: Sequence[Record]) -> int:
    place.parent.mkdir(parents=True, exist_ok=True)
    with stores.lock(place):
        store = Store(place, shape)
        try:
            new = {
                key: record.values
                for record in rows
                if (key := _key(record.digest)) not in store.index and record.values is not None
            }
            if new:
                store.append(list(new), np.stack(list(new.values())))
            store.flush()
        finally:
            store.close()
    return len(new)


def _key(digest: str) -> bytes:
    return Item(Sample(Path(), 0, digest)).key


def splits(found: Iterable[Record]) -> Splits:
    """Return the photos of records as the data set that `train` takes, in their order; opens none.

    Raises DataError where a photo has no label, or there is no class to tell from another.
    """
    told = [(record, str(record.more.get("split") or TRAIN)) for record in found]
    named = [record for record, _ in told if record.reason is None]
    if unlabelled := next((record for record in named if record.label is None), None):
        raise DataError(f"'{unlabelled.path}' has no label. Training needs one for every photo.")
    classes = tuple(sorted({str(record.label) for record in named}))
    if len(classes) < 2:
        raise DataError(
            f"There must be at least two classes, found: {', '.join(classes) or 'none'}."
        )
    places_of = {label: i for i, label in enumerate(classes)}
    parts = {
        split: Dataset(
            tuple(
                Sample(Path(r.path), places_of[str(r.label)], r.digest, r.more.get("group"))
                for r, s in told
                if s == split and r.reason is None
            ),
            classes,
            tuple(Skipped(Path(r.path), r.reason) for r, s in told if s == split and r.reason),
        )
        for split in SPLITS
    }  # fmt: skip
    valid, test = (parts[split] if parts[split].samples else None for split in SPLITS[1:])
    return Splits(parts[TRAIN], valid, test)


def bare(found: Iterable[Record]) -> Iterator[Record]:
    """Yield records without their values: they are many, and not needed."""
    for record in found:
        yield Record(record.path, record.digest, record.label, None, record.reason, None,
                     record.more)  # fmt: skip
