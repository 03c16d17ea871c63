"""A network unit by unit, as a table."""

from __future__ import annotations

from rich.console import Console

from pyflux_transfer.engines.base import Network
from pyflux_transfer.insight.tables import console, show, table
from pyflux_transfer.networks.tensors import Shape


def summary(network: Network, side: int, out: Console = console) -> None:
    """Print the table of units for one image of `side` × `side` pixels."""
    shapes = network.trace((1, 3, side, side))
    rows = table("#", "stage", "unit", "kind", "input", "output")
    rows.add_column("parameters", justify="right")
    rows.add_column("trained")
    for index, (unit, shape) in enumerate(zip(network.units, shapes, strict=True)):
        trained = bool(unit.layers) and index >= network.cut
        row = (str(index), unit.stage, unit.name, unit.kind, _shape(shape.input),
               _shape(shape.output), f"{unit.parameters:,}", "yes" if trained else "")  # fmt: skip
        rows.add_row(*row, end_section=_last_of_stage(network, index))
    show(rows, out)
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
