"""A job from beginning to end: what is left to do, done share by share, here or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyflux_transfer.cluster.parts import Parts, digests, tidy
from pyflux_transfer.cluster.photos import Photo, Shard, with_known
from pyflux_transfer.cluster.records import Record
from pyflux_transfer.cluster.work import SHARE, Job, Worker
from pyflux_transfer.training.callbacks import Silent, Watcher


@dataclass(frozen=True)
class Counts:
    """How a share went: photos that were looked at, written, and those that cannot be read."""

    seen: int = 0
    written: int = 0
    unreadable: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Add two shares."""
        return Counts(*(a + b for a, b in zip(self.row(), other.row(), strict=True)))

    def row(self) -> tuple[int, ...]:
        """Return the numbers, in the order of the fields."""
        return (self.seen, self.written, self.unreadable)


# (job, parts, shares) → the counts of each share, as it is done
Runner = Callable[[Job, Parts, Sequence[Sequence[Photo]]], Iterator[Counts]]


def here(job: Job, parts: Parts, shares: Sequence[Sequence[Photo]]) -> Iterator[Counts]:
    """Do the shares one after another in this process."""
    worker = Worker(job)
    for share in shares:
        yield done(parts, worker, share)


def done(parts: Parts, worker: Callable[[Sequence[Photo]], list[Record]],
         share: Sequence[Photo]) -> Counts:  # fmt: skip
    """Do a share, and write its part whole."""
    records = worker(share)
    if records:
        parts.write(records)
    return Counts(len(share), len(records), sum(record.reason is not None for record in records))


def run(
    job: Job,
    photos: Sequence[Photo],
    out: str,
    *,
    form: str = "parquet",
    shard: Shard | None = None,
    runner: Runner = here,
    size: int = SHARE,
    watcher: Watcher | None = None,
) -> Counts:
    """Write records of all photos, or a shard's, into the folder `out`, and return the counts.

    What `out` holds already of the same job under the same content is not done again. A run that is
    killed loses at most the share that each worker was at. Raises InputError where the folder
    holds another job's.
    """
    watcher = watcher or Silent()
    shard = shard or Shard()
    parts = Parts.of(out, form, job.meta())
    mine = [photo for photo in photos if shard.holds(photo)]
    kept = digests(out)
    todo = with_known(mine, kept)
    before = sum(photo.known is not None for photo in todo)
    told = f", {before} of them kept by an earlier run" if before else ""
    place = f"shard {shard.index}/{shard.count}: " if shard.count > 1 else ""
    watcher.line(f"{place}{len(mine)} photos{told}")
    total = Counts()
    shares = [todo[at : at + size] for at in range(0, len(todo), size)]
    if shares:
        with watcher.bar(job.kind, len(todo)) as advance:
            for counts in runner(job, parts, shares):
                total += counts
                advance(counts.seen)
    if total.written and before and (replaced := tidy(out)):
        watcher.line(f"{replaced} records of photos that have changed were replaced")
    watcher.line(
        f"written {total.written} records into {out}, {total.unreadable} of photos that cannot be "
        "read"
    )
    return total


def summary(total: Counts) -> dict[str, Any]:
    """Return the counts as plain data."""
    return asdict(total)
