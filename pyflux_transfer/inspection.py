"""`check`: what is wrong with labelled photos, told by one pass through a frozen trunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.dataset import CHECKED, Dataset, Sample, Splits, read_sample
from pyflux_transfer.data.decode import MAX_PIXELS, decode_picture
from pyflux_transfer.data.listing import Labelled
from pyflux_transfer.data.portrait import Portrait, portray
from pyflux_transfer.data.preprocess import prepared
from pyflux_transfer.data.source import Reader, told
from pyflux_transfer.data.table import relative
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight import appearance
from pyflux_transfer.insight.copies import Alike, Pairs, alike, groups, nearest, unit
from pyflux_transfer.insight.findings import Finding, Findings, Photo, ordered
from pyflux_transfer.insight.labels import ASKED, agreed, doubt, votes
from pyflux_transfer.insight.outliers import distances
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.predict import softmax
from pyflux_transfer.training.callbacks import Silent, Timer, Watcher
from pyflux_transfer.training.examples import Maker, labels_of
from pyflux_transfer.training.features import Cache, Features, Item, extract
from pyflux_transfer.training.head import HeadResult, solve_head
from pyflux_transfer.training.options import Options

if TYPE_CHECKING:
    from pyflux_transfer.engines.base import Device, Labels, Precision

SPLITS = ("train", "valid", "test")
BLOCK = 4096  # rows of features that are pooled at once


def check(
    data: Labelled | Splits,
    arch: str | Path = "resnet50",
    *,
    weights: str | Path | None = "imagenet",
    engine: str = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    cache: bool | Cache = True,
    seed: int = 0,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    watcher: Watcher | None = None,
) -> Findings:
    """Look for wrong labels, near-copies, series, outliers and bad photos; nothing is changed.

    `data` is as in `Classifier.fit`; photos of all its splits are looked at. `arch` and `weights`
    name the network whose frozen trunk looks, as in `load`. Labels are judged by a head that has
    not seen the photo, nor a copy of it. Raises what `load` and `scan` raise.
    """
    watcher = watcher or Silent()
    options = Options(workers=workers, max_pixels=max_pixels, max_skipped=1.0, seed=seed)
    reader = Reader(workers, max_pixels, watcher.bar, watcher.line, max_skipped=1.0)
    splits = reader.read(data, training=False)
    model = load(arch, weights=weights, engine=engine, device=device, precision=precision)
    watcher.line(model.engine)
    gathered = _gathered(splits, data)
    watcher.line(told(gathered.dataset))
    model = model.with_head(gathered.dataset.classes, seed=seed)
    looks = _Looks(model, options, Cache.of(cache), watcher)
    features, portraits = looks.at(gathered.dataset)
    with watcher.bar("comparing", len(portraits)) as advance:
        pooled = _pooled(features)
        small = np.stack([portrait.small for portrait in portraits])
        paths = [photo.path for photo in gathered.photos]
        digests = [sample.digest for sample in gathered.dataset.samples]
        same = alike(pooled, small, paths, digests)
        advance(len(portraits))
    together = _together(gathered.dataset, same)
    judged = looks.judged(replace(gathered.dataset, samples=together), features)
    if line := _beside_training(same):
        watcher.line(line)
        gathered = replace(gathered, notes=(*gathered.notes, line))
    return _findings(gathered, portraits, pooled, same, judged)


def _beside_training(same: Alike) -> str | None:
    """Say why training may tell another accuracy: it knows of no copies but by groups."""
    count = len(np.unique(np.concatenate([same.copies.photos, same.frames.photos])))
    if not count:
        return None
    return (
        f"this accuracy holds {count} near-copies and frames together in folds; `train` does so "
        "with groups alone (--write-groups) and may tell a higher one"
    )


@dataclass(frozen=True)
class _Gathered:
    """The photos of all splits as one dataset, where each is from, and those that are unread."""

    dataset: Dataset
    photos: tuple[Photo, ...]  # as many as samples
    unread: tuple[tuple[Photo, str], ...]
    notes: tuple[str, ...]


def _gathered(splits: Splits, data: Labelled | Splits) -> _Gathered:
    parts = [
        (name, part)
        for name, part in zip(SPLITS, (splits.train, splits.valid, splits.test), strict=True)
        if part is not None
    ]
    classes = splits.parts[-1].classes
    samples = tuple(sample for _, part in parts for sample in part.samples)
    if not samples:
        raise InputError("There is no photo to check.")
    root = folder_of(data) if isinstance(data, (str, Path)) else None

    def path(place: Path, held: bool = False) -> str:
        return place.as_posix() if root is None or held else relative(place, root)

    photos = tuple(
        Photo(
            path(sample.path, bool(sample.content)),
            name,
            classes[sample.label],
            group=sample.group,
            content=sample.content,
        )
        for name, part in parts
        for sample in part.samples
    )
    unread = tuple(
        (Photo(path(item.path), name, ""), item.reason)
        for name, part in parts
        for item in part.skipped
    )
    return _Gathered(Dataset(samples, classes), photos, unread, splits.notes)


def folder_of(data: str | Path) -> Path:
    """Return the folder from which a source's photos are seen: itself, or that of a table."""
    place = Path(data)
    return place if place.is_dir() else place.parent


# --- looking --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Looks:
    """Passes photos through the trunk, each at most once, and solves heads on what comes out."""

    model: Classifier
    options: Options
    cache: Cache
    watcher: Watcher
    timer: Timer = field(default_factory=Timer)

    def at(self, dataset: Dataset) -> tuple[Features, list[Portrait]]:
        """Return the trunk's features and the look of all photos; each is decoded once."""
        seen: dict[str, Portrait] = {}

        def read(item: Item) -> Array:
            return read_sample(item.sample, partial(self._decoded, item.sample, seen))

        features = extract(
            self.model.network, self.model.preprocessing, [Item(s) for s in dataset.samples], read,
            self.cache, batch_size=self.options.batch_size, workers=self.options.workers,
            timer=self.timer, watcher=self.watcher, title="features",
        )  # fmt: skip
        rest = [sample for sample in dataset.samples if sample.digest not in seen]
        self._portray(list({sample.digest: sample for sample in rest}.values()), seen)
        return features, [seen[sample.digest] for sample in dataset.samples]

    def _decoded(self, sample: Sample, seen: dict[str, Portrait], data: bytes) -> Array:
        preprocessing = self.model.preprocessing
        picture = decode_picture(
            data, max_pixels=CHECKED, background=preprocessing.background,
            shorter_side=preprocessing.resize,
        )  # fmt: skip
        seen[sample.digest] = portray(data, picture)
        return prepared(picture, preprocessing)

    def _portray(self, samples: Sequence[Sample], seen: dict[str, Portrait]) -> None:
        """Look at photos whose features were kept."""
        if not samples:
            return

        def look(sample: Sample) -> None:
            read_sample(sample, partial(self._decoded, sample, seen))

        workers = self.options.workers
        with self.watcher.bar("looking", len(samples)) as advance:
            for _ in map_ahead(look, samples, workers=workers, ahead=4 * workers):
                advance(1)

    def judged(self, dataset: Dataset, features: Features) -> HeadResult:
        """Solve the head on features that are there."""
        known = _Known(
            self.model.network, self.model.preprocessing, self.options, self.cache, self.timer,
            self.watcher, rows=features,
        )  # fmt: skip
        return solve_head(known, dataset)


@dataclass(frozen=True)
class _Known(Maker):
    """Makes no features: they are there."""

    rows: Features | None = None

    def plain(self, dataset: Dataset) -> Features:
        """Return the features of the images."""
        assert self.rows is not None
        assert self.rows.count == len(dataset.samples)
        return self.rows


def _pooled(features: Features) -> Array:
    """Return features as one vector a photo (N, D): of a map the mean over its places."""
    blocks = []
    for start in range(0, features.count, BLOCK):
        rows = features.take(np.arange(start, min(start + BLOCK, features.count)))
        blocks.append(rows.mean(axis=(2, 3)) if rows.ndim == 4 else rows.reshape(len(rows), -1))
    return np.concatenate(blocks)


def _together(dataset: Dataset, same: Alike) -> tuple[Sample, ...]:
    """Return the samples with a group for those that must not judge each other."""
    samples = list(dataset.samples)
    for number, photos in enumerate(_joined(dataset, same)):
        for i in photos:
            samples[i] = replace(samples[i], group=f"together {number}")
    return tuple(samples)


def _joined(dataset: Dataset, same: Alike) -> list[list[int]]:
    """Return the photos that copies, series and groups join."""
    first: dict[str, int] = {}
    told = [
        (first.setdefault(sample.group, i), i)
        for i, sample in enumerate(dataset.samples)
        if sample.group is not None
    ]
    stated = np.array(told, np.int64).reshape(-1, 2)
    return groups(len(dataset.samples), stated, same.copies.photos, same.frames.photos)


# --- telling --------------------------------------------------------------------------------------


def _findings(
    gathered: _Gathered, portraits: Sequence[Portrait], pooled: Array, same: Alike,
    judged: HeadResult,
) -> Findings:  # fmt: skip
    dataset = gathered.dataset
    photos = tuple(
        replace(photo, width=portrait.width, height=portrait.height)
        for photo, portrait in zip(gathered.photos, portraits, strict=True)
    )
    unread = tuple(photo for photo, _ in gathered.unread)
    reasons = [reason for _, reason in gathered.unread]
    units = unit(pooled)
    near = nearest(units, units, ASKED)
    found = [
        *(Finding("unreadable", len(photos) + i, 1.0, why) for i, why in enumerate(reasons)),
        *_labels(dataset, near, judged),
        *_copies(photos, same.copies),
        *_series(photos, same.frames),
        *_outliers(dataset, units, near[1]),
        *_appearance(portraits),
    ]
    estimate = judged.estimate
    return Findings(
        dataset.classes, (*photos, *unread), ordered(found),
        (*_group_names(dataset, photos, same), *(photo.path for photo in unread)),
        (estimate.accuracy, estimate.accuracy_error) if estimate else None, gathered.notes,
    )  # fmt: skip


def _labels(dataset: Dataset, near: tuple[Labels, Array], judged: HeadResult) -> Iterator[Finding]:
    if judged.start is None:
        return
    known, labels = np.flatnonzero(judged.start.learnt), labels_of(dataset)
    together = judged.start.truth.bunches
    voted = votes(labels, len(dataset.classes), near, together)[known]
    probabilities = agreed(softmax(judged.start.logits[known], judged.temperature), voted)
    labels = labels[known]
    doubts = doubt(probabilities, labels)
    for i in doubts.ranked():
        other = dataset.classes[doubts.suggested[i]]
        likely = float(probabilities[i, doubts.suggested[i]])
        given = float(probabilities[i, labels[i]])
        why = f"{other} {_percent(likely)}, {dataset.classes[labels[i]]} {_percent(given)}"
        yield Finding("label", int(known[i]), float(doubts.score[i]), why, other, likely)


def _percent(share: float) -> str:
    return "below 1\u00a0%" if share < 0.01 else f"{100 * share:.0f}\u00a0%"


def _copies(photos: Sequence[Photo], pairs: Pairs) -> Iterator[Finding]:
    best = _strongest(len(photos), pairs)
    for number, members in enumerate(groups(len(photos), pairs.photos)):
        splits = {photos[i].split for i in members}
        labels = {photos[i].label for i in members}
        kind = "leak" if len(splits) > 1 else "conflict" if len(labels) > 1 else "copy"
        for i in members:
            score, other, mirrored = best[i]
            same = "equal to" if score >= 1 else "looks the same as"
            why = f"{same} {photos[other].path}" + (", mirrored" if mirrored else "")
            yield Finding(kind, i, score, why, set=number)


def _series(photos: Sequence[Photo], pairs: Pairs) -> Iterator[Finding]:
    best = _strongest(len(photos), pairs)
    for number, members in enumerate(groups(len(photos), pairs.photos)):
        for i in members:
            score, other, _ = best[i]
            yield Finding("frames", i, score, f"like {photos[other].path}", set=number)


def _strongest(count: int, pairs: Pairs) -> list[tuple[float, int, bool]]:
    """Return of each photo its surest pair: the score, the other photo, whether mirrored."""
    best = [(-1.0, -1, False)] * count
    for (a, b), score, mirrored in zip(pairs.photos, pairs.score, pairs.mirrored, strict=True):
        for one, other in ((a, b), (b, a)):
            best[one] = max(best[one], (float(score), int(other), bool(mirrored)))
    return best


def _outliers(dataset: Dataset, units: Array, products: Array) -> Iterator[Finding]:
    far = distances(units, labels_of(dataset), products)
    for i in far.outliers:
        name = dataset.classes[dataset.samples[i].label]
        why = f"unlike all photos, also those of {name}" if far.strange[i] else f"unlike {name}"
        yield Finding("outlier", int(i), float(far.own[i] + 1e3 * far.strange[i]), why)


def _appearance(portraits: Sequence[Portrait]) -> Iterator[Finding]:
    measures = {
        "contrast": [portrait.contrast for portrait in portraits],
        "brightness": [portrait.brightness for portrait in portraits],
        "sharpness": [portrait.sharpness for portrait in portraits],
        "shorter": [min(portrait.width, portrait.height) for portrait in portraits],
    }
    values = {name: np.array(column, np.float64) for name, column in measures.items()}
    for kind, places in appearance.faults(values).items():
        measure = appearance.RULES[kind].measure
        for i in places:
            said = SAID[measure].format(values[measure][i])
            yield Finding(kind, int(i), abs(float(values[measure][i])), said)


SAID = {
    "contrast": "contrast {:.3f} of 1",
    "brightness": "mean brightness {:.2f} of 1",
    "sharpness": "sharpness {:.4f}",
    "shorter": "shorter side {:.0f} pixels",
}


def _group_names(dataset: Dataset, photos: Sequence[Photo], same: Alike) -> tuple[str, ...]:
    """Return for each photo what it should stay together with: a group told before, or a photo."""
    names = [photo.path for photo in photos]
    for members in _joined(dataset, same):
        told = sorted({group for i in members if (group := photos[i].group) is not None})
        name = told[0] if told else photos[members[0]].path
        for i in members:
            names[i] = name
    return tuple(names)
