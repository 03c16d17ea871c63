"""The shapes that pass through a unit, layer by layer, where its kind says how they are wired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pyflux_transfer.networks.shapes import UnitShapes, after
from pyflux_transfer.networks.tensors import Shape
from pyflux_transfer.networks.tree import Node
from pyflux_transfer.networks.units import Layer, Option, Unit

Options = Mapping[str, Option]

INPUT = -1  # what entered the unit


@dataclass(frozen=True)
class Wire:
    """How a convolution is reached: `source` is the one before it, another's number, or INPUT."""

    stride: int = 1
    padding: Option = 0
    source: int | None = None


def layer_shapes(unit: Unit, outside: UnitShapes) -> list[UnitShapes | None]:
    """Return the shapes of each of a unit's layers; None where its kind does not tell."""
    if unit.body is not None:
        return list(_through(unit.body, outside.input))
    if len(unit.layers) == 1:
        return [outside]
    if unit.kind not in _WIRES:
        return [None] * len(unit.layers)
    return list(_walk(unit, outside.input))


def _through(node: Node, entered: Shape) -> Iterator[UnitShapes]:
    """Yield the shapes of the layers below a node, in the order of `tree.leaves`."""
    if node.layer is not None:
        # A token is added to others: what it gives is its own.
        output = node.layer.shape if node.op == "token" else after(node, entered)
        yield UnitShapes(entered, output)
    for inner in node.nodes:
        yield from _through(inner, entered)
        if node.op == "chain":
            entered = after(inner, entered)


def _walk(unit: Unit, entered: Shape) -> Iterator[UnitShapes]:
    wires = _WIRES[unit.kind](unit.options)
    convolutions = [layer for layer in unit.layers if layer.op == "conv"]
    if unit.kind == "inverted":  # its expansion may be missing, the others' shortcut
        wires = wires[-len(convolutions) :]
    outputs: dict[int, Shape] = {INPUT: entered}
    latest = entered
    for layer in unit.layers:
        if layer.op != "conv":
            yield UnitShapes(latest, latest)
            continue
        number = len(outputs) - 1
        wire = wires[number]
        given = latest if wire.source is None else outputs[wire.source]
        latest = outputs[number] = _convolved(given, layer, wire)
        yield UnitShapes(given, latest)


def _convolved(shape: Shape, layer: Layer, wire: Wire) -> Shape:
    sides = (
        _side(size, kernel, wire) for size, kernel in zip(shape[2:], layer.shape[2:], strict=True)
    )
    return (shape[0], layer.shape[0], *sides)


def _side(size: int, kernel: int, wire: Wire) -> int:
    if wire.padding == "same":
        return -(-size // wire.stride)
    return (size + 2 * int(wire.padding) - kernel) // wire.stride + 1


def _stride(options: Options) -> int:
    return int(options["stride"])


# The convolutions of each kind, in the order of its layers.
_WIRES: dict[str, Callable[[Options], list[Wire]]] = {
    "conv": lambda o: [Wire(_stride(o), o["padding"])],
    "basic": lambda o: [Wire(_stride(o), 1), Wire(1, 1), Wire(_stride(o), 0, INPUT)],
    "bottleneck": lambda o: [Wire(), Wire(_stride(o), 1), Wire(), Wire(_stride(o), 0, INPUT)],
    "fire": lambda _: [Wire(), Wire(), Wire(1, 1, source=0)],
    "inverted": lambda o: [Wire(), Wire(_stride(o), o["padding"]), Wire()],
}
