"""A network as rows: the whole, its stages, their units, and the layers inside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.shapes import UnitShapes, trace
from pyflux_transfer.networks.tensors import Shape
from pyflux_transfer.networks.units import Layer, Unit
from pyflux_transfer.networks.wiring import layer_shapes

LEVELS = ("network", "stage", "unit", "layer")
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Row:
    """One part of a network, at a level of `LEVELS`; shapes hold the batch.

    `index` is a unit's number, and of a layer that of its unit. `weight` is the shape of a layer's
    weight. `trained` counts the parameters behind the cut. `mult_adds` are those of convolutions
    and dense layers; `output_bytes` what its layers with parameters give, in float32. What is not
    known is None.
    """

    level: int
    name: str
    kind: str
    index: int | None
    input: Shape | None
    output: Shape | None
    weight: Shape | None
    parameters: int
    trained: int
    statistics: int
    mult_adds: int | None
    output_bytes: int | None

    @property
    def trainable(self) -> str:
        """ "True", "False", "Partial"; "" where there is no parameter."""
        if not self.parameters:
            return ""
        return {0: "False", self.parameters: "True"}.get(self.trained, "Partial")

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        row = {**asdict(self), "level": LEVELS[self.level]}
        return {**row, "trainable": self.trainable or None}


def outline(
    name: str,
    units: Sequence[Unit],
    cut: int,
    shape: Shape,
    depth: int = 3,
    traced: Sequence[UnitShapes] | None = None,
) -> list[Row]:
    """Return the rows down to a depth: 0 the network, 1 its stages, 2 their units, 3 the layers.

    `shape` (N,3,H,W) is that of the images, `cut` the first unit that is trained. A unit that is
    one layer of its own name stands for it. `traced` tells the units' shapes where the units do
    not. Raises InputError for another depth, and for images
    that are too small.
    """
    if depth not in range(len(LEVELS)):
        raise InputError(f"depth must be from 0 to {len(LEVELS) - 1}, got {depth!r}.")
    found: list[Row] = []
    whole: list[Row] = []
    numbered = enumerate(zip(units, traced or trace(units, shape), strict=True))
    for stage, group in groupby(numbered, key=lambda item: item[1][0].stage):
        inside: list[Row] = []
        own: list[Row] = []
        for index, (unit, shapes) in group:
            row, layers = _unit(index, unit, shapes, index >= cut)
            own.append(row)
            inside += [row, *layers]
        whole.append(_sum(1, stage, own))
        found += [whole[-1], *inside]
    rows = [_sum(0, name, whole), *found]
    return [row for row in rows if row.level <= depth]


def _unit(index: int, unit: Unit, shapes: UnitShapes, trains: bool) -> tuple[Row, list[Row]]:
    """Return a unit's row, and those of its layers."""
    layers = [
        _layer(index, layer, inner, trains)
        for layer, inner in zip(unit.layers, layer_shapes(unit, shapes), strict=True)
    ]
    single = [row.name for row in layers] == [unit.name]
    row = Row(
        2, unit.name, unit.kind, index, shapes.input, shapes.output,
        layers[0].weight if single else None, *_counts(layers),
    )  # fmt: skip
    return row, [] if single else layers


def _layer(index: int, layer: Layer, shapes: UnitShapes | None, trains: bool) -> Row:
    sizes = {name: math.prod(shape) for name, shape in layer.tensors.items()}
    statistics = sum(size for name, size in sizes.items() if ".running_" in name)
    parameters = sum(sizes.values()) - statistics
    entered, output = (shapes.input, shapes.output) if shapes else (None, None)
    return Row(
        3, layer.name, layer.op, index, entered, output, layer.shape,
        parameters, parameters if trains else 0, statistics, _mult_adds(layer, output),
        None if output is None else _FLOAT_BYTES * math.prod(output),
    )  # fmt: skip


def _mult_adds(layer: Layer, output: Shape | None) -> int | None:
    """Count those of a convolution or dense layer: each number of the output takes one row."""
    if layer.op == "array":
        return None
    if layer.op not in ("conv", "dense"):
        return 0
    return None if output is None else math.prod(layer.shape[1:]) * math.prod(output)


def _sum(level: int, name: str, rows: Sequence[Row]) -> Row:
    first, last = rows[0].input, rows[-1].output
    return Row(level, name, "", None, first, last, None, *_counts(rows))


def _counts(rows: Sequence[Row]) -> Iterator[Any]:
    """Yield the counts of a row that is made of others."""
    yield sum(row.parameters for row in rows)
    yield sum(row.trained for row in rows)
    yield sum(row.statistics for row in rows)
    yield _total(row.mult_adds for row in rows)
    yield _total(row.output_bytes for row in rows)


def _total(counts: Iterable[int | None]) -> int | None:
    """Add up counts; of one that is not known comes a total that is not known."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
