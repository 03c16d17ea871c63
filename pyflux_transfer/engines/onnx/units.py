"""The unit kinds as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyflux_transfer.engines.onnx.layers import Pads, Writer, pool_pads, same_pads
from pyflux_transfer.engines.onnx.trees import write_tree
from pyflux_transfer.networks.shapes import UnitShapes, trace
from pyflux_transfer.networks.tensors import Array, Shape
from pyflux_transfer.networks.units import Layer, Option, Unit


def write_units(to: Writer, units: Sequence[Unit], x: str, shape: Shape) -> str:
    """Write the units one after another; `shape` is that of one image's batch, (1, 3, H, W)."""
    for unit, shapes in zip(units, trace(units, shape), strict=True):
        to.scope = unit.name
        x = _KINDS[unit.kind](to, unit, x, shapes)
    to.scope = ""
    return x


def _block(to: Writer, unit: Unit, x: str, shapes: UnitShapes) -> str:
    assert unit.body is not None
    return write_tree(to, unit.body, x, shapes.input)


class _Steps:
    """A unit's convolutions in order, each with the norm behind it."""

    def __init__(self, to: Writer, unit: Unit) -> None:
        self.to, self.eps = to, float(unit.options.get("eps", 1e-5))
        self.waiting: list[tuple[Layer, Layer | None]] = []
        for layer in unit.layers:
            if layer.op == "norm":
                self.waiting[-1] = (self.waiting[-1][0], layer)
            else:
                self.waiting.append((layer, None))

    def next(self, x: str, channels: int, stride: int = 1, pads: Pads | int = 0) -> str:
        """Write the next convolution and its norm."""
        layer, norm = self.waiting.pop(0)
        around = (pads,) * 4 if isinstance(pads, int) else pads
        return self.to.conv(x, layer, stride, around, channels, norm, self.eps)


def _pads(padding: Option, sides: Sequence[int], kernel: int, stride: int) -> Pads | int:
    return same_pads(sides, kernel, stride) if padding == "same" else int(padding)


def _conv(to: Writer, unit: Unit, x: str, shapes: UnitShapes) -> str:
    o, (channels, *sides) = unit.options, shapes.input[1:]
    stride = int(o["stride"])
    pads = _pads(o["padding"], sides, int(o["kernel"]), stride)
    return to.act(_Steps(to, unit).next(x, channels, stride, pads), str(o["activation"]))


def _dense(to: Writer, unit: Unit, x: str, shapes: UnitShapes) -> str:
    x = to.dense(x, unit.layers[0], len(shapes.input))
    return to.act(x, str(unit.options["activation"]))


def _basic(to: Writer, unit: Unit, x: str, shapes: UnitShapes) -> str:
    steps, stride = _Steps(to, unit), int(unit.options["stride"])
    y = to.act(steps.next(x, shapes.input[1], stride, 1), "relu")
    y = steps.next(y, shapes.output[1], 1, 1)
    return _added(to, steps, x, y, shapes, stride)


def _bottleneck(to: Writer, unit: Unit, x: str, shapes: UnitShapes) -> str:
    steps, o = _Steps(to, unit), unit.options
    stride, mid = int(o["stride"]), int(o["mid"])
    y = to.act(steps.next(x, shapes.input[1]), "relu")
    y = to.act(steps.next(y, mid, stride, 1), "relu")
    return _added(to, steps, x, steps.next(y, mid), shapes, stride)


def _added(to: Writer, steps: _Steps, x: str, y: str, shapes: UnitShapes, stride: int) -> str:
    """Add the shortcut, by a convolution where one is left, and rectify."""
    shortcut = steps.next(x, shapes.input[1], stride) if steps.waiting else x
    return to.act(to.node("Add", y, shortcut), "relu")


def _inverted(to: Writer, unit: Unit, x: str, shapes: UnitShapes) -> str:
    steps, o = _Steps(to, unit), unit.options
    stride, mid, sides = int(o["stride"]), int(o["mid"]), shapes.input[2:]
    y = to.act(steps.next(x, shapes.input[1]), "relu6") if len(steps.waiting) == 3 else x
    pads = _pads(o["padding"], sides, int(o["kernel"]), stride)
    y = steps.next(to.act(steps.next(y, mid, stride, pads), "relu6"), mid)
    return to.node("Add", y, x) if o["residual"] else y


def _fire(to: Writer, unit: Unit, x: str, shapes: UnitShapes) -> str:
    steps, squeeze = _Steps(to, unit), int(unit.options["squeeze"])
    y = to.act(steps.next(x, shapes.input[1]), "relu")
    one = to.act(steps.next(y, squeeze), "relu")
    three = to.act(steps.next(y, squeeze, 1, 1), "relu")
    return to.node("Concat", one, three, axis=1)


def _maxpool(to: Writer, unit: Unit, x: str, shapes: UnitShapes) -> str:
    kernel, stride, padding = (int(unit.options[name]) for name in ("kernel", "stride", "padding"))
    pads = pool_pads(shapes.input[2:], shapes.output[2:], kernel, stride, padding)
    return to.maxpool(x, kernel, stride, pads)


def _avgpool(to: Writer, unit: Unit, x: str, shapes: UnitShapes) -> str:
    """Adaptive pooling is a product with a matrix for each axis where one mean does not do."""
    size, sides = int(unit.options["size"]), shapes.input[2:]
    if size == 1:
        return to.node("GlobalAveragePool", x)
    if sides == (size, size):
        return x
    rows, columns = (_means(side, size) for side in sides)
    return to.node(
        "MatMul", to.constant(rows), to.node("MatMul", x, to.constant(columns.T))
    )  # fmt: skip


def _means(side: int, size: int) -> Array:
    """Return the matrix (size, side) of PyTorch's adaptive mean pooling."""
    matrix = np.zeros((size, side), np.float32)
    for i in range(size):
        begin, end = i * side // size, -(-(i + 1) * side // size)
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix


def _flatten(to: Writer, _: Unit, x: str, __: Any) -> str:
    return to.node("Flatten", x, axis=1)


_KINDS: dict[str, Callable[[Writer, Unit, str, UnitShapes], str]] = {
    "conv": _conv,
    "dense": _dense,
    "basic": _basic,
    "bottleneck": _bottleneck,
    "inverted": _inverted,
    "fire": _fire,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "flatten": _flatten,
    "dropout": lambda _, __, x, ___: x,
    "block": _block,
}
