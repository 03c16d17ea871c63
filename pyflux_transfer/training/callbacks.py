"""What a training run tells whoever watches it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Record:
    """One epoch. Losses are means an example in nats; `lr` is the head's last rate."""

    phase: int
    epoch: int  # counts through all phases, from 1
    train_loss: float
    valid_loss: float | None
    valid_accuracy: float | None
    lr: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @property
    def score(self) -> tuple[float, float]:
        """Greater is better: validation accuracy, then loss; without validation the last epoch."""
        if self.valid_loss is None or self.valid_accuracy is None:
            return (0.0, float(self.epoch))
        return (self.valid_accuracy, -self.valid_loss)


class Watcher(Protocol):
    """Receives what a run does: a bar for long work, a line for events, a record an epoch."""

    def bar(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a progress bar; call the result with the count of items done since."""

    def line(self, text: str) -> None:
        """Say something once."""

    def epoch(self, record: Record, epochs: int) -> None:
        """Report an epoch that has ended, of `epochs` in all."""


class Silent:
    """Watches and says nothing."""

    def bar(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Ignore the progress."""
        del title, total
        return nullcontext(lambda _: None)

    def line(self, text: str) -> None:
        """Ignore the line."""

    def epoch(self, record: Record, epochs: int) -> None:
        """Ignore the record."""


def solved(watcher: Watcher, record: Record) -> None:
    """Tell a watcher with a method `record` of a head that was solved, which is no epoch."""
    if listens := getattr(watcher, "record", None):
        listens(record)


@dataclass
class Timer:
    """Seconds spent, by name."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def waiting(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on and add the time spent waiting for each."""
        iterator = iter(items)
        end = object()
        while True:
            with self.measure(name):
                item = next(iterator, end)
            if item is end:
                return
            yield item  # type: ignore[misc]
