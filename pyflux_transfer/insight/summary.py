"""A network as a table: the whole, its stages, their units, and the layers inside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from pyflux_transfer.errors import lookup
from pyflux_transfer.insight.tables import console, plain_table, show, table
from pyflux_transfer.networks.outline import LEVELS, Row
from pyflux_transfer.networks.tensors import Shape


@dataclass(frozen=True)
class Style:
    """How cells are written: with ×, or in ASCII; with the batch or without; shares of what."""

    times: str
    batch: bool
    whole: Row

    def shape(self, shape: Shape | None) -> str:
        """Write a shape; nothing for one that is not known."""
        return self.times.join(map(str, shape if self.batch else shape[1:])) if shape else ""


Cell = Callable[[Row, Style], str]

# Of each column its title, whether its numbers stand to the right, and its cells.
COLUMNS: dict[str, tuple[str, bool, Cell]] = {
    "kind": ("kind", False, lambda row, _: row.kind),
    "input": ("input", False, lambda row, style: style.shape(row.input)),
    "output": ("output", False, lambda row, style: style.shape(row.output)),
    "weight": ("weight", False, lambda row, style: style.times.join(map(str, row.weight or ()))),
    "parameters": ("parameters", True, lambda row, _: f"{row.parameters:,}"),
    "share": ("share", True, lambda row, style: _share(row, style.whole)),
    "statistics": ("statistics", True, lambda row, _: f"{row.statistics:,}"),
    "mult-adds": ("mult-adds", True, lambda row, _: _count(row.mult_adds)),
    "trainable": ("trainable", False, lambda row, _: row.trainable or "--"),
}
USUAL = ("kind", "input", "output", "parameters", "trainable")


def show_summary(
    rows: Sequence[Row],
    cut: int,
    columns: Sequence[str] = USUAL,
    *,
    batch: bool = False,
    out: Console = console,
) -> None:
    """Print rows of `outline` and, under them, totals; ASCII but on a terminal of Unicode.

    `columns` are of `COLUMNS`, in any order; `batch` writes shapes with the batch.
    """
    ascii_only = not (out.is_terminal and out.encoding.startswith("utf"))
    whole = rows[0]
    style = Style("x" if ascii_only else "×", batch, whole)
    chosen = [lookup(COLUMNS, name, "column") for name in columns]
    shown = (plain_table if ascii_only else table)("#", "layer")
    for title, numbers, _ in chosen:
        shown.add_column(title, justify="right" if numbers else "left")
    for row in rows:
        number = str(row.index) if LEVELS[row.level] == "unit" else ""
        name = "  " * row.level + row.name
        shown.add_row(number, name, *(cell(row, style) for _, _, cell in chosen))
    with out:  # in a notebook one output
        show(shown, out)
        for line in _totals(whole, cut):
            out.print(line)


def _totals(whole: Row, cut: int) -> list[str]:
    lines = [
        f"{whole.parameters:,} parameters, {whole.trained:,} of them trained from the cut at "
        f"{cut}; {whole.statistics:,} BatchNorm statistics"
    ]
    images = whole.input or ()
    bytes_of = {"input": 4 * math.prod(images), "parameters": 4 * whole.parameters}
    if whole.output_bytes is not None:
        bytes_of["outputs of the layers"] = whole.output_bytes
    sizes = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in bytes_of.items())
    work = f"{_count(whole.mult_adds)} mult-adds; " if whole.mult_adds else ""
    lines.append(f"{images[0]} image{'s' if images[0] > 1 else ''}: {work}{sizes}")
    return lines


def _share(row: Row, whole: Row) -> str:
    return f"{row.parameters / whole.parameters:.1%}" if whole.parameters else ""


def _count(number: int | None) -> str:
    """Write a large count in a few letters: 1.81 G."""
    if number is None:
        return ""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.2f} {letter}"
    return str(number)
