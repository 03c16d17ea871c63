"""Tables that a check leaves behind: of findings, and of photos with groups."""

from __future__ import annotations

import csv
from pathlib import Path

from pyflux_transfer.data.table import Row, write_table
from pyflux_transfer.errors import InputError, readable
from pyflux_transfer.insight.findings import Findings
from pyflux_transfer.storage import replacing

COLUMNS = (
    "finding", "set", "path", "split", "label", "decision", "new_label", "probability", "score",
    "why",
)  # fmt: skip


def write_findings(target: str | Path, findings: Findings) -> Path:
    """Write a line a finding: CSV with an empty column for decisions. Raises StorageError."""
    target = Path(target)
    with replacing(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for found in findings.found:
            photo = findings.photos[found.photo]
            likely = "" if found.probability is None else f"{found.probability:.4f}"
            number = "" if found.set is None else found.set + 1
            writer.writerow(
                (found.kind, number, readable(photo.path), photo.split, photo.label, "",
                 found.suggested, likely, f"{found.score:.4f}", found.why)
            )  # fmt: skip
    return target


def write_groups(target: str | Path, findings: Findings, folder: Path) -> Path:
    """Write a table of the readable photos with the group that each should stay in.

    Raises InputError for photos that are no files of their own.
    """
    unread = {finding.photo for finding in findings.of("unreadable")}
    rows = [
        Row(folder / photo.path, photo.label, photo.split, group)
        for i, (photo, group) in enumerate(zip(findings.photos, findings.groups, strict=True))
        if i not in unread
    ]
    if inside := next((row.path.name for row in rows if not row.path.exists()), None):
        raise InputError(
            f"'{inside}' is no file by itself, so a table of photos cannot name it. Save the "
            "images as files first."
        )
    return write_table(target, rows)
