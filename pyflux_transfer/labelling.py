"""`next`: which photos without labels to label next, and folders to sort them from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyflux_transfer.classifier import Classifier
from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.dataset import Skipped
from pyflux_transfer.data.decode import MAX_PIXELS
from pyflux_transfer.data.listing import Labelled
from pyflux_transfer.data.preprocess import load
from pyflux_transfer.errors import ImageError, InputError, StorageError, shortened
from pyflux_transfer.insight.selection import select
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.predict import at_head, softmax, sources
from pyflux_transfer.training.callbacks import Silent, Watcher

ASK = "_label these first"  # a folder before those of the classes
_UNSAFE = '<>:"/\\|?*'  # in names of folders, on one system or another


@dataclass(frozen=True)
class Proposed:
    """One photo without a label: the likeliest label, and its place in what to label next.

    `order` counts from 1; None for photos that need not be labelled now.
    """

    path: str
    label: str
    probability: float
    order: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Proposal:
    """All photos as they were given, and those that cannot be read."""

    photos: tuple[Proposed, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def next(self) -> list[Proposed]:
        """Return the photos to label next, the first at the front."""
        asked = [photo for photo in self.photos if photo.order is not None]
        return sorted(asked, key=lambda photo: photo.order or 0)


def propose(
    model: Classifier,
    unlabelled: str | Path | Sequence[str | Path],
    count: int = 20,
    *,
    known: Labelled | None = None,
    batch_size: int = 16,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    watcher: Watcher | None = None,
) -> Proposal:
    """Propose which photos of a folder to label next: those that teach the model most.

    They are those it is unsure of, unlike the photos of the folder or table `known` where that is
    given, and unlike each other; those that are none of the classes, as far as the model can tell,
    come last. Raises InputError for a count below 1 or without any photo.
    """
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}.")
    watcher = watcher or Silent()
    named = sources(unlabelled)
    held = [name for name, source in named if not isinstance(source, (str, Path))]
    if held:
        raise InputError(
            f"'{held[0]}' is no file by itself, and photos to label are. Save the images as files."
        )
    given = [str(source) for _, source in named]
    seen: list[str] = []
    skipped: list[Skipped] = []
    logits, rows, scores = [], [], []
    reader = _Reader(model, workers, max_pixels)
    with watcher.bar("photos", len(given)) as advance:
        for names, images in reader.batches(given, batch_size, skipped, advance):
            embedded = model.network.embed(images)
            logits.append(model.network.logits(embedded))
            rows.append(_vectors(embedded))
            if model.belonging:
                scores.append(model.belonging.score(at_head(model.network, embedded), logits[-1]))
            seen += names
    if not seen:
        raise InputError(f"None of the {len(given)} photos can be read.")
    learnt = _learnt(model, known, watcher)
    probabilities = softmax(np.concatenate(logits), model.temperature)
    features = np.concatenate(rows)
    middle = features.mean(axis=0)
    units, old = _unit(features - middle), _unit(learnt - middle if len(learnt) else features[:0])
    sure = model.belonging.sure(np.concatenate(scores)) if model.belonging else None
    chosen = select(probabilities, units, old, count, sure)
    order = {int(photo): place for place, photo in enumerate(chosen, start=1)}
    best = probabilities.argmax(axis=1)
    return Proposal(
        tuple(
            Proposed(
                path, model.classes[best[i]], round(float(probabilities[i, best[i]]), 6),
                order.get(i),
            )
            for i, path in enumerate(seen)
        ),
        tuple(skipped),
    )  # fmt: skip


@dataclass(frozen=True)
class _Reader:
    model: Classifier
    workers: int
    max_pixels: int

    def batches(
        self, paths: Sequence[str], size: int, skipped: list[Skipped],
        advance: Callable[[int], None],
    ) -> Iterator[tuple[list[str], Array]]:  # fmt: skip
        """Yield names and images of those that can be read, and remember the others."""
        names: list[str] = []
        images: list[Array] = []
        read = map_ahead(self._read, paths, workers=self.workers, ahead=2 * size)
        for path, found in zip(paths, read, strict=True):
            advance(1)
            if isinstance(found, ImageError):
                skipped.append(Skipped(Path(path), str(found)))
                continue
            names.append(path)
            images.append(found)
            if len(images) == size:
                yield names, np.stack(images)
                names, images = [], []
        if images:
            yield names, np.stack(images)

    def _read(self, path: str) -> Array | ImageError:
        try:
            return load(path, self.model.preprocessing, max_pixels=self.max_pixels)
        except ImageError as error:
            return error


def _learnt(model: Classifier, known: Labelled | None, watcher: Watcher) -> Array:
    """Return the features of the photos that have labels already."""
    if known is None:
        return np.empty((0, 0), np.float32)
    cut = model.network.cut  # where `embed` ends
    rows, _, _ = model.features(known, cut=cut, watcher=watcher)
    return _vectors(rows)


def _vectors(rows: Array) -> Array:
    """Return features as one vector a photo: of a map the mean over its places."""
    return rows.mean(axis=(2, 3)) if rows.ndim == 4 else rows.reshape(len(rows), -1)


def _unit(rows: Array) -> Array:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True) if rows.size else np.ones((len(rows), 1))
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


# --- folders to drag from -------------------------------------------------------------------------


def sort_into(folder: str | Path, proposal: Proposal, *, copy: bool = False) -> list[Path]:
    """Put links to the photos, or copies, into a folder for each proposed label; return them.

    Those to label first stand in a folder of their own, in their order; the others are named so
    that the least sure come first. The photos stay where they are. Raises InputError for a folder
    that holds something already, StorageError where the system refuses.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"'{shortened(folder)}' holds something already. Give a new folder.")
    made = []
    try:
        for photo in proposal.photos:
            source = Path(photo.path).absolute()
            label = folder_name(photo.label)
            if photo.order is not None:
                target = folder / ASK / f"{photo.order:04} {label} {source.name}"
            else:
                target = folder / label / f"{100 * photo.probability:03.0f} {source.name}"
            target = _free(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            _put(source, target, copy)
            made.append(target)
    except OSError as error:
        raise StorageError(
            f"Cannot sort into '{shortened(folder)}': {error.strerror or error}. Choose another "
            "place."
        ) from error
    return made


def _put(source: Path, target: Path, copy: bool) -> None:
    """Link or copy; where links cannot be had copy."""
    if not copy:
        try:
            target.symlink_to(source)
            return
        except OSError:
            if os.path.lexists(target):
                raise
    shutil.copyfile(source, target)


def _free(target: Path) -> Path:
    """Return a name that is free: photos of different folders may be called alike."""
    place, number = target, 2
    while os.path.lexists(place):
        place = target.with_name(f"{target.stem} ({number}){target.suffix}")
        number += 1
    return place


def folder_name(label: str) -> str:
    """Return a class's name as that of a folder: a bundle may hold any text."""
    name = "".join("_" if c in _UNSAFE or not c.isprintable() else c for c in label).strip()
    return "_" if name.strip(".") == "" else name[:100]
