"""What the parts of one or several folders say together: a table, kept features, a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyflux_transfer.cluster.parts import job_of, parts_of
from pyflux_transfer.cluster.records import FORMS, Record
from pyflux_transfer.errors import InputError, lookup, shortened
from pyflux_transfer.storage import check_writable, replacing


def records(places: Sequence[str]) -> Iterator[Record]:
    """Yield each photo's record once, part by part: of several the latest run's.

    Raises InputError where the folders are of different jobs.
    """
    alike(places)
    seen: set[str] = set()
    for place in places:
        for part in parts_of(place):
            fresh = [record for record in part if record.path not in seen]
            seen.update(record.path for record in fresh)
            yield from fresh


def alike(places: Sequence[str]) -> dict[str, Any]:
    """Return the job that wrote all folders. Raises InputError where there are several."""
    if not places:
        raise InputError("Give the folders to merge.")
    first, *others = [(place, job_of(place)) for place in places]
    for place, job in others:
        differing = [name for name in job if job[name] != first[1].get(name)]
        if differing:
            raise InputError(
                f"'{shortened(place)}' is of another job than '{shortened(first[0])}' (it differs "
                f"in {', '.join(differing)}). Merge those of one job."
            )
    return first[1]


def merge(places: Sequence[str], out: str | Path) -> int:
    """Write all records, sorted by path, into one .parquet, .csv or .jsonl; return their count."""
    target = Path(out)
    form = lookup(FORMS, target.suffix[1:], "format")
    check_writable(target)
    meta = alike(places)
    rows = sorted(records(places), key=lambda record: record.path)
    with replacing(target) as temporary:
        temporary.write_bytes(form.encode(rows, meta))
    return len(rows)
