"""Decisions on photos: read from a table, and applied to make a new table of the photos."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyflux_transfer.data.listing import Entry, list_source
from pyflux_transfer.data.table import Row, relative, write_table
from pyflux_transfer.errors import DataError, InputError, readable

DECISIONS = ("keep", "remove", "relabel")


@dataclass(frozen=True)
class Decision:
    """What was decided on one photo: keep, remove, or relabel as `label`."""

    what: str
    label: str = ""


def read_decisions(table: str | Path) -> dict[str, Decision]:
    """Return the decisions of a CSV with the columns path, decision and new_label, by path.

    The page writes one, and the table of findings is one once its column is filled. Rows without a
    decision are passed over. Raises DataError for anything else, and where two rows contradict.
    """
    table = Path(table)
    found: dict[str, Decision] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if missing := {"path", "decision"} - set(rows.fieldnames or ()):
                raise DataError(
                    f"'{table}' lacks the column '{min(missing)}'. Its first line must be "
                    "path,decision,new_label."
                )
            for row in rows:
                decision = _decision(row, f"'{table}', line {rows.line_num}")
                path = row["path"]
                if decision and found.setdefault(path, decision) != decision:
                    raise DataError(
                        f"'{table}' decides on '{path}' twice, and not alike. Keep one line of it."
                    )
    except (csv.Error, UnicodeError) as error:
        raise DataError(f"'{table}' is not a CSV in UTF-8 ({error}). Save it as such.") from error
    except OSError as error:
        raise DataError(f"'{table}' cannot be read: {error.strerror}.") from error
    return found


def _decision(row: Mapping[str, str | None], where: str) -> Decision | None:
    what = (row["decision"] or "").strip().casefold()
    if not what:
        return None
    if what not in DECISIONS:
        raise DataError(f"{where}: decision must be {', '.join(DECISIONS)} or empty, got '{what}'.")
    label = (row.get("new_label") or "").strip()
    if what == "relabel" and not label:
        raise DataError(f"{where}: relabel needs the new label in the column new_label.")
    return Decision(what, label if what == "relabel" else "")


def apply(data: str | Path, decisions: str | Path, target: str | Path) -> tuple[Path, int, int]:
    """Write a table of the photos as decided; no photo is touched.

    `data` and the paths in `decisions` are those of the check. Returns the table, and how many
    photos were removed and relabelled. Raises DataError where a decision is on no photo of them.
    """
    decided = read_decisions(decisions)
    listing = list_source(data)
    folder = Path(data) if Path(data).is_dir() else Path(data).parent
    rows, met = [], set()
    unread = {relative(item.path, folder) for part in listing.skipped.values() for item in part}
    for split, entries in listing.parts.items():
        for entry in entries:
            if entry.content is not None:
                raise InputError(
                    f"The photos are inside '{data}', so a new table cannot name them. Save the "
                    "images as files first."
                )
            path = readable(relative(entry.path, folder))
            met.add(path)
            if row := _decided(entry, split, decided.get(path)):
                rows.append(row)
    if strange := sorted(set(decided) - met - unread):
        raise DataError(
            f"'{decisions}' decides on '{strange[0]}', which is no photo of '{data}'. Give the "
            "same data as to the check."
        )
    if not rows:
        raise InputError("All photos would be removed: nothing is written.")
    counts = [sum(d.what == what for d in decided.values()) for what in ("remove", "relabel")]
    return write_table(target, rows), counts[0], counts[1]


def _decided(entry: Entry, split: str, decision: Decision | None) -> Row | None:
    if decision and decision.what == "remove":
        return None
    label = decision.label if decision and decision.label else entry.name
    return Row(entry.path, label, split, entry.group)
