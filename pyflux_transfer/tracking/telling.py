"""Tells trackers of a run: a watcher among others, around the one that the user sees."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pyflux_transfer.errors import InputError, PyFluxTransferError, readable
from pyflux_transfer.insight.metrics import Evaluation
from pyflux_transfer.insight.plot import confusion
from pyflux_transfer.tracking.tracker import Log, Tracker, Value, trackers
from pyflux_transfer.training.callbacks import Record, Silent, Watcher
from pyflux_transfer.training.train import Run

LOG = "log.txt"


class Telling:
    """A watcher that passes on what it is told, and tells trackers."""

    def __init__(self, inner: Watcher, chosen: list[Tracker]) -> None:
        self._inner = inner
        self._trackers = chosen
        self._lines: list[str] = []
        self._told: set[int] = set()  # epochs

    def bar(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a progress bar."""
        return self._inner.bar(title, total)

    def line(self, text: str) -> None:
        """Say something, and remember it."""
        self._lines.append(readable(text))
        self._inner.line(text)

    def epoch(self, record: Record, epochs: int) -> None:
        """Report an epoch."""
        self._inner.epoch(record, epochs)
        self.record(record)

    def record(self, record: Record) -> None:
        """Tell trackers of an epoch, or of a head that was solved."""
        self._told.add(record.epoch)
        row = record.to_json()
        measures = {
            name: float(row[name])
            for name in ("train_loss", "valid_loss", "valid_accuracy", "lr", "seconds", "phase")
            if row[name] is not None
        }
        self._each(lambda tracker: tracker.metrics(measures, record.epoch))

    @property
    def wanted(self) -> bool:
        """Tell whether anybody still listens."""
        return bool(self._trackers)

    def start(self, name: str) -> None:
        """Begin; what cannot be had is an error now, when nothing is lost. Raises InputError."""
        begun: list[Tracker] = []
        try:
            for tracker in self._trackers:
                tracker.start(name)
                begun.append(tracker)
        except Exception as error:
            self._trackers = begun
            self.end("failed")
            if isinstance(error, PyFluxTransferError):
                raise
            raise InputError(
                f"{_name(tracker)} cannot be logged to: {_said(error)} Leave it out, or set it "
                "right."
            ) from error

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Tell how the run is set up."""
        plain = dict(_flat(values))
        self._each(lambda tracker: tracker.parameters(plain))

    def outcome(self, run: Run, scores: Evaluation | None) -> None:
        """Tell what came out: measures, and which classes were taken for which."""
        for record in run.records:
            if record.epoch not in self._told:
                self.record(record)
        measures = dict(_measures(run, scores))
        self._each(lambda tracker: tracker.metrics(measures, None))
        if scores:
            try:
                png = confusion(scores)
                self._each(lambda tracker: tracker.picture("confusion", png))
            except InputError as error:
                self.line(f"no picture of the confusion matrix: {error}")
        self._lines += run.outcome()

    def file(self, path: Path) -> None:
        """Give a file away, to be copied."""
        self._each(lambda tracker: tracker.file(path))

    def end(self, status: str) -> None:
        """End the run."""
        if self._lines:
            text = "\n".join(self._lines)
            self._each(lambda tracker: tracker.text(LOG, text))
        self._each(lambda tracker: tracker.end(status))
        self._trackers = []

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        """Tell each tracker; one that fails is told no more."""
        for tracker in list(self._trackers):
            try:
                tell(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                text = (
                    f"{_name(tracker)} has failed and is told no more: {_said(error)} The training "
                    "is not touched by it."
                )
                if isinstance(self._inner, Silent):
                    warnings.warn(text, RuntimeWarning, stacklevel=2)
                self.line(text)


@contextmanager
def telling(log: Log, watcher: Watcher, name: str) -> Iterator[Telling]:
    """Give a watcher that tells the trackers of `log` too, from the run's start to its end.

    Raises InputError where a tracker cannot be had.
    """
    told = Telling(watcher, trackers(log))
    if told.wanted:
        told.start(f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        yield told
    except KeyboardInterrupt:
        told.end("interrupted")
        raise
    except BaseException:
        told.end("failed")
        raise


def _name(tracker: Tracker) -> str:
    return type(tracker).__name__


def _said(error: Exception) -> str:
    """Return the first line of what a library says, as a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0].rstrip('.')}."


def _measures(run: Run, scores: Evaluation | None) -> Iterator[tuple[str, float]]:
    """Yield what is known at the end."""
    if scores:
        yield "accuracy", scores.accuracy
        yield "balanced_accuracy", scores.balanced_accuracy
        yield "log_loss", scores.log_loss
        yield "calibration_error", scores.ece
    if run.estimate:
        yield "accuracy", run.estimate.accuracy
        yield "accuracy_error", run.estimate.accuracy_error
        yield "log_loss", run.estimate.log_loss
        yield "log_loss_error", run.estimate.log_loss_error
    yield "temperature", run.temperature
    yield "best_epoch", float(run.best.epoch)
    for part, seconds in run.seconds.items():
        yield f"seconds_{part}", seconds


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Value]]:
    """Yield names and plain values; inner mappings by both names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, (str, int, float, bool)):
            yield before + name, value
        elif value is not None:
            yield before + name, ", ".join(map(str, value)) if value else "none"
