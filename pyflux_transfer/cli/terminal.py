"""What people see: tables, on a terminal or in a log; and `Terminal`, which watches long work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pyflux_transfer.errors import counted, readable
from pyflux_transfer.insight.tables import console, show, table
from pyflux_transfer.progress import Progress

if TYPE_CHECKING:
    from pyflux_transfer.comparison import Candidate
    from pyflux_transfer.insight.findings import Findings
    from pyflux_transfer.insight.metrics import Evaluation
    from pyflux_transfer.installation.doctor import Check
    from pyflux_transfer.labelling import Proposed
    from pyflux_transfer.predict import Prediction
    from pyflux_transfer.training.store import Entry

Terminal = Progress


def predictions(answers: Iterable[Prediction], out: Console = console) -> None:
    """Print a table of images and their labels."""
    found = list(answers)
    known = any(answer.sure is not None for answer in found)
    rows = table("image", "label", "probability", *(["belonging"] if known else []), "then")
    for answer in found:
        rest = ", ".join(f"{label} {p:.1%}" for label, p in answer.top[1:])
        told = [belonging(answer)] if known else []
        rows.add_row(answer.name, answer.label, f"{answer.probability:.1%}", *told, rest)
    show(rows, out)


def belonging(answer: Prediction) -> str:
    """Return whether an answer is sure, and the score that says so."""
    if answer.sure is None:
        return ""
    return f"{answer.belonging:.2f} {'sure' if answer.sure else 'unsure'}"


def evaluation(found: Evaluation, out: Console = console) -> None:
    """Print the scores, the table of classes and, up to 20 classes, the confusion matrix."""
    out.print(
        f"{counted(found.count, 'image')}  accuracy {found.accuracy:.1%}  balanced accuracy "
        f"{found.balanced_accuracy:.1%}  log loss {found.log_loss:.4f}  "
        f"calibration error {found.ece:.3f}"
    )
    if found.unsure is not None:
        out.print(
            f"{found.unsure} of {found.count} ({found.unsure / found.count:.1%}) are unsure: "
            "below the model's threshold of belonging"
        )
    rows = table("class")
    for name in ("precision", "recall", "F1", "images"):
        rows.add_column(name, justify="right")
    for row in found.classes:
        scores = (f"{score:.3f}" for score in (row.precision, row.recall, row.f1))
        rows.add_row(row.label, *scores, str(row.count))
    show(rows, out)
    if len(found.classes) <= 20:
        show(_confusion(found), out)


def _confusion(found: Evaluation) -> Table:
    rows = table("confusion: is ↓  called →")
    for row in found.classes:
        rows.add_column(row.label, justify="right")
    for index, (score, counts) in enumerate(zip(found.classes, found.confusion, strict=True)):
        cells = [
            Text(str(n), "bold") if i == index else Text(str(n or "·"))
            for i, n in enumerate(counts)
        ]
        rows.add_row(score.label, *cells)
    return rows


def comparison(rows: Sequence[Candidate], out: Console = console) -> None:
    """Print the networks, the best first, and under the table what its signs and times mean."""
    found = table("")
    found.add_column("network", overflow="fold")
    for name in ("accuracy", "log loss", "ms/image", "parameters", "MB"):
        found.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        sign = "→" if row.recommended else "=" if row.tied else ""
        if row.estimate is None:
            found.add_row("✗", row.name, "failed")
            continue
        found.add_row(
            sign, row.name, row.estimate.figures(), f"{row.estimate.log_loss:.3f}",
            f"{row.ms:.1f}", f"{row.parameters / 1e6:.1f} M", f"{row.bytes / 1e6:.1f}",
            style="bold" if row.recommended else "",
        )  # fmt: skip
    show(found, out)
    for row in rows:
        if row.error:
            out.print(f"✗ {row.name}: {row.error}", soft_wrap=True)
    tied, judged = sum(row.tied for row in rows), sum(row.estimate is not None for row in rows)
    if tied > 1:
        out.print(
            f"= as good as the best, within its standard error; → the quickest of these {tied}"
        )
    elif judged > 1:
        out.print("→ better than the others by more than its standard error")
    out.print("ms/image: the trunk alone, on this machine, 16 images at once")


WORST = 10  # findings of a kind that a terminal shows


def findings(found: Findings, out: Console = console) -> None:
    """Print the counts, the surest label errors and what to do first."""
    counts = found.counts()
    rows = table("class")
    for split in next(iter(counts.values()), {}):
        rows.add_column(split, justify="right")
    for name, row in counts.items():
        rows.add_row(name, *map(str, row.values()))
    show(rows, out)
    if doubts := found.of("label")[:WORST]:
        out.print()
        rows = table("label", "rather", "photo")
        for doubt in doubts:
            photo = found.photos[doubt.photo]
            rows.add_row(photo.label, doubt.suggested, readable(photo.path))
        show(rows, out)
    out.print("\nWhat to do first")
    for number, line in enumerate(found.verdict(), start=1):
        out.print(f"{number}. {readable(line)}", soft_wrap=True)


def next_photos(photos: Sequence[Proposed], out: Console = console) -> None:
    """Print the photos to label next, with what they may be."""
    rows = table("#", "photo", "perhaps", "probability")
    for photo in photos:
        cells = (str(photo.order), readable(photo.path), photo.label, f"{photo.probability:.1%}")
        rows.add_row(*cells)
    show(rows, out)


def checks(rows: Sequence[Check], out: Console = console) -> None:
    """Print what the doctor found, a remedy under each missing part."""
    found = table("", "part", "found")
    for row in rows:
        remedy = f"\n→ {row.remedy}" if row.remedy else ""
        sign = Text("✓", "green") if row.ok else Text("✗", "red")
        found.add_row(sign, row.name, row.value + remedy)
    show(found, out)


def cache(entries: Sequence[Entry], folder: str, out: Console = console) -> None:
    """Print the feature stores, the one used longest ago first."""
    rows = table("store", "feature shape", "images", "size", "last used")
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        size = f"{entry.size_bytes / 2**20:,.1f} MiB"
        rows.add_row(entry.name, "×".join(map(str, entry.shape)), str(entry.rows), size, used)
    show(rows, out)
    out.print(f"{sum(entry.size_bytes for entry in entries) / 2**20:,.1f} MiB in {folder}")
