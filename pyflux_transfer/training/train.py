"""A training run, from datasets to the best weights: phases, features, loop, snapshots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pyflux_transfer.catalog import Preprocessing
from pyflux_transfer.data.augment import augmenter
from pyflux_transfer.data.dataset import Dataset, Skipped, duplicates
from pyflux_transfer.data.decode import decode
from pyflux_transfer.data.preprocess import load
from pyflux_transfer.engines.base import Array, Labels, Network, State
from pyflux_transfer.errors import TrainingError
from pyflux_transfer.training import loop, runs
from pyflux_transfer.training.callbacks import Record, Timer, Watcher
from pyflux_transfer.training.features import Cache, Features, Item, extract, fingerprint
from pyflux_transfer.training.options import Options, class_weights
from pyflux_transfer.training.plan import Phase
from pyflux_transfer.training.solver import solve

Stopped = Literal["finished", "early", "interrupted"]


@dataclass(frozen=True)
class Run:
    """What a training run did: a record an epoch, the best one, and where the seconds went.

    `seconds` is split into decode (waiting for images), trunk, tail, validation and cache.
    `skipped` are the images left out and why, `duplicates` pairs of equal files across the border
    between training and validation.
    """

    records: tuple[Record, ...]
    best: Record
    seconds: dict[str, float]
    skipped: tuple[Skipped, ...]
    duplicates: tuple[tuple[Path, Path], ...]
    stopped: Stopped

    @property
    def history(self) -> list[dict[str, Any]]:
        """The records as plain data."""
        return [record.to_json() for record in self.records]


@dataclass(frozen=True)
class Job:
    """Everything a run is made from."""

    network: Network
    preprocessing: Preprocessing
    train: Dataset
    valid: Dataset | None
    phases: tuple[Phase, ...]
    options: Options
    cache: Cache
    folder: Path | None = None
    resume: bool = False

    @property
    def deepest(self) -> int:
        """The lowest cut of all phases: what lies before it never changes."""
        return min(phase.cut for phase in self.phases)

    def setting(self) -> dict[str, Any]:
        """Describe what must be equal for a resumed run to equal an uninterrupted one."""
        frozen = {name for unit in self.network.units[: self.deepest] for name in unit.tensors}
        state = self.network.state()
        return {
            "phases": [asdict(phase) for phase in self.phases],
            "options": {k: v for k, v in self.options.to_json().items() if k != "workers"},
            "classes": list(self.train.classes),
            "images": _digest(self.train, self.valid),
            "preprocessing": self.preprocessing.to_json(),
            "engine": self.network.engine,
            "precision": self.network.precision,
            "trunk weights": fingerprint({name: state[name] for name in frozen}),
        }


def train(job: Job, watcher: Watcher) -> Run:
    """Train, keep the best weights in the network, and return what happened.

    Ctrl-C after the first epoch ends the run like early stopping does. Where a loss is not a
    number the best weights so far are put back before TrainingError is raised.
    """
    same = tuple(duplicates(job.train, job.valid)) if job.valid else ()
    if same:
        watcher.line(
            f"{len(same)} images stand in both training and validation, which flatters the "
            f"validation: {same[0][0]} = {same[0][1]}" + (" …" if len(same) > 1 else "")
        )
    progress = _Progress(job)
    stopped: Stopped = "finished"
    try:
        for record in _records(job, progress, watcher):
            watcher.epoch(record, sum(phase.epochs for phase in job.phases))
            if _impatient(progress, job.options.patience):
                stopped = "early"
                break
    except KeyboardInterrupt:
        if not progress.records:
            raise
        stopped = "interrupted"
    except TrainingError:
        progress.restore_best()
        raise
    progress.restore_best()
    skipped = (*job.train.skipped, *(job.valid.skipped if job.valid else ()))
    seconds = dict(progress.timer.seconds)
    return Run(tuple(progress.records), progress.best, seconds, skipped, same, stopped)


class _Progress:
    """What a run has reached: its records, the best weights, and the snapshot in its folder."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.timer = Timer()
        self.records: list[Record] = []
        self.optimizer: State | None = None  # of the phase a resumed run stopped in
        self._best: State = {}
        self._setting = job.setting() if job.folder else {}
        if job.folder and job.resume:
            self._resume(job.folder)
        elif job.folder:
            runs.refuse_existing(job.folder)

    def _resume(self, folder: Path) -> None:
        snapshot = runs.read(folder, self._setting)
        if snapshot is None:
            return
        network = self.job.network
        network.load_state({**network.state(), **snapshot.tail})
        self.records = list(snapshot.records)
        self.optimizer = snapshot.optimizer
        self._best = snapshot.best

    @property
    def best(self) -> Record:
        """The epoch with the best validation, the first of equals."""
        return max(self.records, key=lambda record: record.score)

    def add(self, record: Record) -> None:
        """Take a finished epoch; keep its weights if it is the best, and write the snapshot."""
        self.records.append(record)
        network, deepest = self.job.network, self.job.deepest
        tail = network.state(deepest)
        if self.best is record:
            self._best = tail
        if self.job.folder:
            optimizer = network.optimizer_state()
            best = self.best.epoch
            snapshot = runs.Snapshot(
                self._setting, tuple(self.records), best, tail, self._best, optimizer
            )
            runs.write(self.job.folder, snapshot)

    def restore_best(self) -> None:
        """Put the best weights into the network."""
        if self._best:
            network = self.job.network
            network.load_state({**network.state(), **self._best})


def _records(job: Job, progress: _Progress, watcher: Watcher) -> Iterator[Record]:
    """Run the phases that are not behind us, recording each epoch before it is passed on."""
    before = 0
    for number, phase in enumerate(job.phases, start=1):
        done = sum(record.phase == number for record in progress.records)
        if done < _length(job, phase):
            job.network.cut_at(phase.cut)
            job.network.prepare(job.options.update())
            if done and progress.optimizer is not None:
                job.network.load_optimizer_state(progress.optimizer)
            for record in _run(job, phase, number, before, done, progress.timer, watcher):
                progress.add(record)
                yield record
        before += _length(job, phase)


def _length(job: Job, phase: Phase) -> int:
    return 1 if job.options.solver == "lbfgs" else phase.epochs


def _run(
    job: Job, phase: Phase, number: int, before: int, done: int, timer: Timer, watcher: Watcher
) -> Iterator[Record]:
    """Prepare the examples of one phase and train on them."""
    options, network = job.options, job.network
    weights = class_weights(options.class_weights, _labels(job.train), job.train.classes)
    validate: loop.Validate = _no_validation
    if job.valid:
        valid = _features(job, _plain(job.valid), timer, watcher, "validation features")
        validate = partial(loop.validate, network, valid, _labels(job.valid), options.batch_size)

    examples = _examples(job, timer, watcher)
    if options.solver == "lbfgs":
        yield _solve(job, examples, validate, weights, timer, number, before)
        return
    yield from loop.run_phase(
        network, phase, examples, validate, options, weights, timer,
        number=number, before=before, done=done,
    )  # fmt: skip


def _solve(
    job: Job,
    examples: loop.Examples,
    validate: loop.Validate,
    weights: Array | None,
    timer: Timer,
    number: int,
    before: int,
) -> Record:
    if not isinstance(examples, loop.Cached):
        raise TrainingError(
            "solver='lbfgs' needs features that are kept. Use augment='none', or views=k."
        )
    options, start = job.options, timer.seconds["tail"]
    with timer.measure("tail"):
        loss, _ = solve(
            job.network, examples.features, np.repeat(examples.labels, examples.views),
            decay=options.weight_decay, smoothing=options.label_smoothing, weights=weights,
        )  # fmt: skip
    valid_loss, accuracy = validate() or (None, None)
    seconds = timer.seconds["tail"] - start
    return Record(number, before + 1, loss, valid_loss, accuracy, 0.0, seconds)


def _examples(job: Job, timer: Timer, watcher: Watcher) -> loop.Examples:
    """Choose between kept features and live augmentation."""
    options = job.options
    augment = augmenter(options.augment, job.preprocessing)
    if augment is None:
        features = _features(job, _plain(job.train), timer, watcher, "training features")
        return loop.Cached(features, _labels(job.train), options)

    def read(item: Item, rng: np.random.Generator) -> Array:
        image = decode(
            item.sample.path,
            max_pixels=options.max_pixels,
            background=job.preprocessing.background,
            shorter_side=job.preprocessing.resize,
        )
        return augment(image, rng)

    if not options.views:
        return loop.Live(_plain(job.train), read, job.network, options, timer)
    spec = options.to_json()["augment"]
    items = [
        Item(sample, f"{spec}:{options.seed}:{view}")
        for sample in job.train.samples
        for view in range(options.views)
    ]

    def read_view(item: Item) -> Array:
        return read(item, np.random.default_rng(np.frombuffer(item.key, np.uint32)))

    features = _features(job, items, timer, watcher, "augmented features", read_view)
    return loop.Cached(features, _labels(job.train), options)


def _features(
    job: Job,
    items: Sequence[Item],
    timer: Timer,
    watcher: Watcher,
    title: str,
    read: Callable[[Item], Array] | None = None,
) -> Features:
    def plain(item: Item) -> Array:
        return load(item.sample.path, job.preprocessing, max_pixels=job.options.max_pixels)

    return extract(
        job.network, job.preprocessing, items, read or plain, job.cache,
        batch_size=job.options.batch_size, workers=job.options.workers,
        timer=timer, watcher=watcher, title=title,
    )  # fmt: skip


def _no_validation() -> None:
    return None


def _plain(dataset: Dataset) -> list[Item]:
    return [Item(sample) for sample in dataset.samples]


def _labels(dataset: Dataset) -> Labels:
    return np.array([sample.label for sample in dataset.samples], np.int64)


def _digest(*datasets: Dataset | None) -> str:
    rows = [[(s.digest, s.label) for s in dataset.samples] for dataset in datasets if dataset]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _impatient(progress: _Progress, patience: int | None) -> bool:
    """Tell whether `patience` epochs have brought nothing better."""
    return patience is not None and progress.records[-1].epoch - progress.best.epoch >= patience
