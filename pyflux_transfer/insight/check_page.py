"""The page that a check leaves behind: findings with thumbnails, and a menu beside each."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.decode import MAX_PIXELS
from pyflux_transfer.data.portrait import thumbnail
from pyflux_transfer.data.reading import read_content, read_file
from pyflux_transfer.errors import ImageError, readable
from pyflux_transfer.insight.findings import GROUPED, KINDS, Finding, Findings, Photo
from pyflux_transfer.insight.page import render
from pyflux_transfer.storage import replacing

SHOWN = 200  # photos of a kind that the page shows
MANY = 60  # classes beyond which a photo's menu offers the suggestion alone
WORKERS = 2


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
            return thumbnail(_bytes(folder, findings.photos[photo]))
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


def _bytes(folder: Path, photo: Photo) -> bytes:
    if photo.content is None:
        return read_file(folder / photo.path, MAX_PIXELS)
    return read_content(photo.path, photo.content, MAX_PIXELS)


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
