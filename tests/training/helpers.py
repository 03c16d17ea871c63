"""What the training tests share: a network that counts, a watcher that remembers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyflux_transfer.data.dataset import Dataset, scan, split
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.training.callbacks import Record
from pyflux_transfer.training.features import Cache
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.plan import Phase
from pyflux_transfer.training.train import Job
from tests import photos
from tests.engines import fake

NOWHERE = Cache(None)


class CountingNetwork(fake.FakeNetwork):
    """Counts how often each image passes the trunk."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.embedded: Counter[bytes] = Counter()

    def embed(self, images: Array) -> Array:
        self.embedded.update(image.tobytes() for image in images)
        return super().embed(images)


def network(cut: int | str = "head", head: Head | None = None, seed: int = 1) -> CountingNetwork:
    built = CountingNetwork(Plan(fake.TINY, head or Head(3), seed=seed))
    built.cut_at(resolve_cut(built.units, cut))
    return built


class Notes:
    """A watcher that remembers, and does `at_epoch` after each epoch."""

    def __init__(self, at_epoch: Callable[[Record], None] = lambda _: None) -> None:
        self.lines: list[str] = []
        self.records: list[Record] = []
        self.bars: dict[str, list[int]] = {}
        self.epochs = 0
        self._at_epoch = at_epoch

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        assert sum(done) == total
        self.bars.setdefault(title, []).append(total)

    def line(self, text: str) -> None:
        self.lines.append(text)

    def epoch(self, record: Record, epochs: int) -> None:
        self.records.append(record)
        self.epochs = epochs
        self._at_epoch(record)


def interrupt_after(epoch: int) -> Notes:
    """Return a watcher during whose call, after an epoch, Ctrl-C is pressed."""

    def press(record: Record) -> None:
        if record.epoch == epoch:
            raise KeyboardInterrupt

    return Notes(press)


def datasets(folder: Path, counts: dict[str, int] | None = None) -> tuple[Dataset, Dataset]:
    """Write photos and return them as training and validation images."""
    counts = counts or {"blue": 8, "green": 7, "red": 6}
    return split(scan(photos.write(folder, counts)).train, 0.3)


def job(
    train: Dataset,
    valid: Dataset | None,
    *phases: Phase,
    head: Head | None = None,
    cache: Cache = NOWHERE,
    folder: Path | None = None,
    resume: bool = False,
    **options: Any,
) -> Job:
    """Return a job for a new network; the default phase trains the head for four epochs."""
    built = network(head=head)
    chosen = phases or (Phase(built.cut, 4, 1e-2),)
    return Job(
        built, fake.TINY.preprocessing, train, valid, chosen,
        Options(**{"batch_size": 4, **options}), cache, folder, resume,
    )  # fmt: skip
