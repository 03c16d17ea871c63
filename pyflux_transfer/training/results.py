"""`results.csv` in a run's folder: a line an epoch, for any table program."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from pyflux_transfer.storage import replacing
from pyflux_transfer.training.callbacks import Record

FILE = "results.csv"


def write(folder: Path, records: Sequence[Record]) -> Path:
    """Write all records anew; what was not measured is empty. Raises StorageError."""
    target = folder / FILE
    columns = ["epoch", *(field.name for field in fields(Record) if field.name != "epoch")]
    with replacing(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(record.to_json() for record in records)
    return target
