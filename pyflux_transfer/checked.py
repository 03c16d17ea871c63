"""What a check leaves behind: a table and a page of findings, and new tables of the photos."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.decode import MAX_PIXELS
from pyflux_transfer.data.listing import Entry, list_source
from pyflux_transfer.data.portrait import thumbnail
from pyflux_transfer.data.reading import read_file
from pyflux_transfer.data.table import Row, relative, write_table
from pyflux_transfer.errors import DataError, ImageError, InputError, readable
from pyflux_transfer.insight.findings import GROUPED, KINDS, Finding, Findings
from pyflux_transfer.insight.page import render
from pyflux_transfer.storage import replacing

COLUMNS = (
    "finding", "set", "path", "split", "label", "decision", "new_label", "probability", "score",
    "why",
)  # fmt: skip
DECISIONS = ("keep", "remove", "relabel")
SHOWN = 200  # photos of a kind that the page shows
MANY = 60  # classes beyond which a photo's menu offers the suggestion alone
WORKERS = 2


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


# --- the page -------------------------------------------------------------------------------------


def write_page(target: str | Path, findings: Findings, folder: Path, title: str) -> Path:
    """Write the findings as one page that needs nothing else; photos lie in `folder`."""
    text = page(findings, folder, title)
    with replacing(target) as temporary:
        temporary.write_text(text, "utf-8")
    return Path(target)


def page(findings: Findings, folder: Path, title: str) -> str:
    """Return the page's HTML. Photos that cannot be read any more have no picture."""
    shown = {kind: _shown(findings, kind) for kind in KINDS if findings.of(kind)}
    wanted = sorted({f.photo for kind, some in shown.items() for f in some if kind != "unreadable"})

    def picture(photo: int) -> str:
        try:
            return thumbnail(read_file(folder / findings.photos[photo].path, MAX_PIXELS))
        except ImageError:
            return ""

    made = map_ahead(picture, wanted, workers=WORKERS, ahead=4 * WORKERS)
    pictures = dict(zip(wanted, made, strict=True))
    return render(
        "check.html", title=readable(title), summary=_summary(findings),
        verdict=findings.verdict(), notes=[readable(note) for note in findings.notes],
        sections=[_section(findings, kind, some, pictures) for kind, some in shown.items()],
        command=f"pyflux-transfer check {shlex.quote(title)} --apply decisions.csv",
        **_classes(findings),
    )  # fmt: skip


def _shown(findings: Findings, kind: str) -> list[Finding]:
    """Return the first findings of a kind, whole sets of those that come in sets."""
    if kind not in GROUPED:
        return findings.of(kind)[:SHOWN]
    some: list[Finding] = []
    for members in findings.sets(kind):
        if some and len(some) + len(members) > SHOWN:
            break
        some += members[: SHOWN - len(some)]
    return some


def _summary(findings: Findings) -> str:
    count = len(findings.photos) - len(findings.of("unreadable"))
    told = f"{count} photos of {len(findings.classes)} classes."
    if findings.accuracy:
        share, error = findings.accuracy
        told += (
            f" A head that has not seen them agrees with {100 * share:.1f} ± {100 * error:.1f} % "
            "of the labels."
        )
    return told


def _section(
    findings: Findings, kind: str, some: Sequence[Finding], pictures: Mapping[int, str]
) -> dict[str, Any]:
    row = KINDS[kind]
    cards = [_card(findings, found, pictures) for found in some]
    section: dict[str, Any] = {
        "kind": kind, "title": row.title, "means": row.means, "advice": row.advice,
        "count": len(findings.of(kind)), "shown": len(some), "sets": [], "cards": [], "rows": [],
    }  # fmt: skip
    if kind == "unreadable":
        section["rows"] = cards
    elif kind in GROUPED:
        sets: dict[int | None, list[dict[str, Any]]] = {}
        for found, card in zip(some, cards, strict=True):
            sets.setdefault(found.set, []).append(card)
        section["sets"] = [
            {"name": f"{row.title}, set {number}: {len(members)} photos", "cards": members}
            for number, members in enumerate(sets.values(), start=1)
        ]
    else:
        section["cards"] = cards
    return section


def _card(findings: Findings, found: Finding, pictures: Mapping[int, str]) -> dict[str, Any]:
    photo = findings.photos[found.photo]
    names = [name for name in findings.classes if name != photo.label]
    if len(names) > MANY:
        names = [found.suggested] if found.suggested else []
    first = [name for name in names if name == found.suggested]
    return {
        "path": readable(photo.path),
        "label": photo.label,
        "suggested": found.suggested,
        "why": readable(found.why),
        "split": photo.split if len({p.split for p in findings.photos}) > 1 else "",
        "size": f"{photo.width} × {photo.height}" if photo.width else "",
        "thumbnail": pictures.get(found.photo, ""),
        "choices": first + [name for name in names if name != found.suggested],
    }


def _classes(findings: Findings) -> dict[str, Any]:
    counts = findings.counts()
    most = max((sum(row.values()) for row in counts.values()), default=0)
    rows = [
        {
            "name": name,
            "counts": list(row.values()),
            "share": f"{sum(row.values()) / max(most, 1):.4f}",
        }
        for name, row in counts.items()
    ]
    return {"classes": rows, "splits": list(next(iter(counts.values()), {}))}


# --- decisions ------------------------------------------------------------------------------------


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


def write_groups(target: str | Path, findings: Findings, folder: Path) -> Path:
    """Write a table of the readable photos with the group that each should stay in."""
    unread = {finding.photo for finding in findings.of("unreadable")}
    return write_table(
        target,
        [
            Row(folder / photo.path, photo.label, photo.split, group)
            for i, (photo, group) in enumerate(zip(findings.photos, findings.groups, strict=True))
            if i not in unread
        ],
    )
