"""A training run, from datasets to the best weights: phases, features, loop, snapshots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pyflux_transfer.data.dataset import Dataset, Skipped, duplicates, torn
from pyflux_transfer.engines.base import Network
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.belonging import Belonging
from pyflux_transfer.insight.metrics import Evaluation
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import Array, State
from pyflux_transfer.training import loop, results, runs
from pyflux_transfer.training.callbacks import Record, Timer, Watcher
from pyflux_transfer.training.estimate import Estimate
from pyflux_transfer.training.examples import Cached, Maker, labels_of
from pyflux_transfer.training.features import Cache, fingerprint
from pyflux_transfer.training.options import UNDECISIVE, Options, class_weights
from pyflux_transfer.training.plan import Phase
from pyflux_transfer.training.solver import only_dense, solve

Stopped = Literal["finished", "early", "interrupted"]


@dataclass(frozen=True)
class Run:
    """What a training run did: a record an epoch, the best one, and where the seconds went.

    `seconds` is split into decode (waiting for images), trunk, tail, validation and cache.
    `skipped` are the images left out and why, `duplicates` pairs of equal files across the border
    between training and validation. Where the recipe was followed there is one record, whose
    validation is that of the folds, their `estimate`, and the `temperature` that belongs to the
    head; `evaluation` are the scores of the answers to photos that were held out, `belonging` is
    there where photos were held out.
    """

    records: tuple[Record, ...]
    best: Record
    seconds: dict[str, float]
    skipped: tuple[Skipped, ...]
    duplicates: tuple[tuple[Path, Path], ...]
    stopped: Stopped
    estimate: Estimate | None = None
    temperature: float = 1.0
    evaluation: Evaluation | None = None
    belonging: Belonging | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The records as plain data."""
        return [record.to_json() for record in self.records]

    def _repr_html_(self) -> str:
        return "".join(f"<div>{escape(line)}</div>" for line in self.outcome())

    def outcome(self) -> Iterator[str]:
        """Yield the lines that close a run: how it ended, its best epoch, where the time went."""
        reached = f"best epoch {self.best.epoch}"
        if self.estimate:
            reached = self.estimate.sentence()
        elif self.best.valid_accuracy is not None:
            reached += f", validation accuracy {self.best.valid_accuracy:.1%}"
        yield f"{'stopped early' if self.stopped == 'early' else self.stopped}; {reached}"
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        yield f"time: {parts}"
        yield from map(str, self.skipped)


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

    def __post_init__(self) -> None:
        if self.options.patience is not None and self.valid is None:
            raise InputError(
                f"patience={self.options.patience} needs validation images, there are none. "
                "Give some with valid=, or leave patience out."
            )
        if self.options.solver == "lbfgs":
            for phase in self.phases:
                only_dense(self.network.units[phase.cut :])

    @property
    def deepest(self) -> int:
        """The lowest cut of all phases: what lies before it never changes."""
        return min(phase.cut for phase in self.phases)

    @property
    def epochs(self) -> int:
        """Epochs of all phases."""
        return sum(self.length(phase) for phase in self.phases)

    def length(self, phase: Phase) -> int:
        """Epochs of a phase; the solver that goes straight to the optimum takes one."""
        return 1 if self.options.solver == "lbfgs" else phase.epochs

    def setting(self) -> dict[str, Any]:
        """Describe what must be equal for a resumed run to equal an uninterrupted one."""
        frozen = {name for unit in self.network.units[: self.deepest] for name in unit.tensors}
        state = self.network.state()
        return {
            "phases": [asdict(phase) for phase in self.phases],
            "options": {k: v for k, v in self.options.to_json().items() if k not in UNDECISIVE},
            "classes": list(self.train.classes),
            "images": _digest(self.train, self.valid),
            "preprocessing": self.preprocessing.to_json(),
            "engine": self.network.engine,
            "precision": self.network.precision,
            "trunk weights": fingerprint({name: state[name] for name in frozen}),
        }


def train(job: Job, watcher: Watcher) -> Run:
    """Train, keep the best weights in the network, and return what happened.

    Ctrl-C after the first epoch ends the run like early stopping does. A run that ends before,
    or with an error, leaves the best weights there were: at first those it began with.
    """
    same = twice(job.train, job.valid, watcher)
    progress = _Progress(job)
    interrupted = False
    try:
        for record in _records(job, progress, watcher):
            watcher.epoch(record, job.epochs)
    except KeyboardInterrupt:
        if not progress.records:
            raise
        interrupted = True
    finally:
        progress.restore_best()
    short = len(progress.records) < job.epochs
    stopped: Stopped = "interrupted" if interrupted else "early" if short else "finished"
    skipped = (*job.train.skipped, *(job.valid.skipped if job.valid else ()))
    seconds = dict(progress.timer.seconds)
    return Run(tuple(progress.records), progress.best, seconds, skipped, same, stopped)


def twice(train: Dataset, valid: Dataset | None, watcher: Watcher) -> tuple[tuple[Path, Path], ...]:
    """Return the pairs of equal files across the border to validation; tell of them and groups."""
    same = tuple(duplicates(train, valid)) if valid else ()
    where = "training and validation, which flatters the validation"
    for line in torn(valid, [train], where) if valid else ():
        watcher.line(line)
    if same:
        more = " …" if len(same) > 1 else ""
        watcher.line(f"{len(same)} images stand in both {where}: {same[0][0]} = {same[0][1]}{more}")
    return same


class _Progress:
    """What a run has reached: its records, the best weights, and the snapshot in its folder."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.timer = Timer()
        self.records: list[Record] = []
        self.optimizer: State | None = None  # of the phase a resumed run stopped in
        self._best = job.network.state(job.deepest)
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
        network = self.job.network
        tail = network.state(self.job.deepest)
        if not self.records or record.score > self.best.score:
            self._best = tail
        self.records.append(record)
        if self.job.folder:
            optimizer = network.optimizer_state()
            snapshot = runs.Snapshot(
                self._setting, tuple(self.records), tail, self._best, optimizer
            )
            runs.write(self.job.folder, snapshot)
            results.write(self.job.folder, self.records)

    def restore_best(self) -> None:
        """Put the best weights into the network."""
        network = self.job.network
        network.load_state({**network.state(), **self._best})

    def done(self, phase: int) -> int:
        """Epochs of a phase that are behind us."""
        return sum(record.phase == phase for record in self.records)

    def over(self, phase: int, epochs: int) -> bool:
        """Tell whether a phase has had its epochs, or `patience` of them brought nothing better."""
        patience = self.job.options.patience
        if self.done(phase) >= epochs:
            return True
        if patience is None or not self.records:
            return False
        best = self.best.epoch
        return sum(r.phase == phase and r.epoch > best for r in self.records) >= patience


def _records(job: Job, progress: _Progress, watcher: Watcher) -> Iterator[Record]:
    """Run the phases that are not behind us, recording each epoch before it is passed on."""
    before = 0
    for number, phase in enumerate(job.phases, start=1):
        epochs = job.length(phase)
        if not progress.over(number, epochs):
            for record in _phase(job, phase, number, before, progress, watcher):
                progress.add(record)
                yield record
                if progress.over(number, epochs):
                    break
        before += epochs


def _phase(
    job: Job, phase: Phase, number: int, before: int, progress: _Progress, watcher: Watcher
) -> Iterator[Record]:
    """Prepare the examples of one phase and train on them."""
    options, network, timer = job.options, job.network, progress.timer
    done = progress.done(number)
    network.cut_at(phase.cut)
    network.prepare(options.update())
    if done and progress.optimizer is not None:
        network.load_optimizer_state(progress.optimizer)
    weights = class_weights(options.class_weights, labels_of(job.train), job.train.classes)
    maker = Maker(network, job.preprocessing, options, job.cache, timer, watcher)
    validate: loop.Validate = _no_validation
    if job.valid:
        features, labels = maker.validation(job.valid), labels_of(job.valid)
        validate = partial(loop.validate, network, features, labels, options.batch_size)
    examples = maker.training(job.train)
    if options.solver == "lbfgs":
        assert isinstance(examples, Cached)  # Options sees to it
        yield _solve(job, examples, validate, weights, timer, number, before)
        return
    yield from loop.run_phase(
        network, phase, examples, validate, options, weights, timer,
        number=number, before=before, done=done,
    )  # fmt: skip


def _solve(
    job: Job,
    examples: Cached,
    validate: loop.Validate,
    weights: Array | None,
    timer: Timer,
    number: int,
    before: int,
) -> Record:
    options, start = job.options, timer.seconds["tail"]
    with timer.measure("tail"):
        loss = solve(
            job.network, examples.features, np.repeat(examples.labels, examples.views),
            decay=options.weight_decay, smoothing=options.label_smoothing, weights=weights,
        )  # fmt: skip
    with timer.measure("validation"):
        valid_loss, accuracy = validate() or (None, None)
    seconds = timer.seconds["tail"] - start
    return Record(number, before + 1, loss, valid_loss, accuracy, 0.0, seconds)


def _no_validation() -> None:
    return None


def _digest(*datasets: Dataset | None) -> str:
    rows = [[(s.digest, s.label) for s in dataset.samples] for dataset in datasets if dataset]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
