"""The shapes that pass through a network, from the units alone: nothing is built or computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Shape
from pyflux_transfer.networks.tree import Node
from pyflux_transfer.networks.units import Option, Unit

Options = Mapping[str, Option]


@dataclass(frozen=True)
class UnitShapes:
    """Shapes of one unit's input and output, the batch included."""

    input: Shape
    output: Shape


def trace(units: Iterable[Unit], shape: Shape) -> list[UnitShapes]:
    """Return each unit's shapes for an input of this shape, the batch included.

    Raises InputError where a unit cannot take what comes to it, or nothing would be left of it.
    """
    shapes = []
    for unit in units:
        if takes(unit, shape):
            check_sides(unit, shape)
        output = _output(unit, shape)
        if min(output, default=0) < 1:
            raise InputError(
                f"Unit '{unit.name}' cannot take an input of shape {shape}. "
                "The image may be too small, or come from another cut."
            )
        shapes.append(UnitShapes(shape, output))
        shape = output
    return shapes


def takes(unit: Unit, shape: Shape) -> bool:
    """Tell whether a unit takes an input of this shape, as far as axes and channels go."""
    if len(shape) < 2:
        return False
    axes = len(shape) if unit.kind in ("flatten", "dropout") else axes_of(unit)
    channels = shape[channel_axis(shape)]
    return len(shape) == axes and unit.options.get("in", channels) == channels


def check_fit(unit: Unit, shape: tuple[int, ...]) -> None:
    """Refuse an input whose axes, channels or sides a unit cannot take."""
    if not takes(unit, shape):
        width = unit.options.get("in", shape[channel_axis(shape)] if len(shape) > 1 else "D")
        forms = {2: f"(N, {width})", 3: f"(N, T, {width})", 4: f"(N, {width}, H, W)"}
        raise InputError(f"Unit '{unit.name}' takes {forms[axes_of(unit)]}, got {shape}.")
    check_sides(unit, shape)


def check_sides(unit: Unit, shape: Shape) -> None:
    """Refuse images that a unit cannot divide into patches without a rest."""
    multiple = int(unit.options.get("multiple", 1))
    if any(side % multiple for side in shape[2:]):
        high, wide = (max(side // multiple, 1) * multiple for side in shape[2:])
        raise InputError(
            f"Unit '{unit.name}' takes images whose height and width are multiples of {multiple}, "
            f"got {shape[2]} × {shape[3]}. Take {high} × {wide}."
        )


def axes_of(unit: Unit) -> int:
    """Count the axes of what a unit takes: images 4, tokens 3, vectors 2."""
    return int(unit.options.get("axes", 2 if unit.kind == "dense" else 4))


def channel_axis(shape: Shape) -> int:
    """Return which axis holds the channels: of tokens (N, T, D) the last, else the second."""
    return 2 if len(shape) == 3 else 1


def _output(unit: Unit, shape: Shape) -> Shape:
    """Return the shape that a unit gives; without axes where it cannot take what comes."""
    if not takes(unit, shape):
        return ()
    if unit.body is None:
        return _OUTPUTS[unit.kind](shape, unit.options)
    try:
        return after(unit.body, shape)
    except InputError:
        return ()


def after(node: Node, shape: Shape) -> Shape:
    """Return the shape that a node of a block's tree makes of an input of this shape.

    Raises InputError where the node cannot take it.
    """
    output = _NODES[node.op](node, shape)
    if min(output) < 1:
        raise InputError(f"Nothing is left of an input of shape {shape}: the image is too small.")
    return output


def _convolved(node: Node, shape: Shape) -> Shape:
    assert node.layer is not None
    stride = int(node.options["stride"])
    padding = int(node.options["above"]), int(node.options["left"])
    sides = (
        _windows(size, kernel, stride, pad)
        for size, kernel, pad in zip(shape[2:], node.layer.shape[2:], padding, strict=True)
    )
    return (shape[0], node.layer.shape[0], *sides)


def _wide(shape: Shape, width: int) -> Shape:
    axis = channel_axis(shape)
    return (*shape[:axis], width, *shape[axis + 1 :])


def _side_by_side(node: Node, shape: Shape) -> Shape:
    outputs = [after(inner, shape) for inner in node.nodes]
    axis = channel_axis(outputs[0])
    return _wide(outputs[0], sum(output[axis] for output in outputs))


def _chained(node: Node, shape: Shape) -> Shape:
    for inner in node.nodes:
        shape = after(inner, shape)
    return shape


def _broadcast(node: Node, shape: Shape) -> Shape:
    outputs = [after(inner, shape) for inner in node.nodes]
    return tuple(map(max, zip(*outputs, strict=True)))


_NODES: dict[str, Callable[[Node, Shape], Shape]] = {
    "chain": _chained,
    "add": _broadcast,
    "multiply": _broadcast,
    "concat": _side_by_side,
    "conv": _convolved,
    "norm": lambda _, s: s,
    "layernorm": lambda _, s: s,
    "dense": lambda n, s: _wide(s, n.layer.shape[0] if n.layer else 0),
    "scale": lambda _, s: s,
    "embed": lambda _, s: (s[0], 1 + math.prod(s[2:]), s[1]),
    "act": lambda _, s: s,
    "maxpool": lambda n, s: _maxpool(s, n.options),
    "meanpool": lambda n, s: _maxpool(s, {**n.options, "ceil": False}),
    "mean": lambda _, s: (*s[:2], 1, 1),
    "flat": lambda _, s: (s[0], math.prod(s[1:])),
    "attend": lambda _, s: (*s[:2], s[2] // 3),
    "first": lambda _, s: (s[0], s[2]),
    "rest": lambda _, s: (s[0], s[2]),
}


def _windows(size: int, kernel: int, stride: int, padding: int, ceil: bool = False) -> int:
    """Count the positions of a window; `ceil` takes a last one that hangs over the border."""
    span = size + 2 * padding - kernel
    count = (-(-span // stride) if ceil else span // stride) + 1
    # One that would begin in the padding behind the image sees nothing and is not counted.
    return count - (ceil and (count - 1) * stride >= size + padding)


def _image(shape: Shape, o: Options, kernel: int, padding: Option) -> Shape:
    """Convolve (N, C, H, W); "same" padding leaves a size divided by the stride, rounded up."""
    stride = int(o["stride"])
    if padding == "same":
        sides = [-(-size // stride) for size in shape[2:]]
    else:
        sides = [_windows(size, kernel, stride, int(padding)) for size in shape[2:]]
    return (shape[0], int(o["out"]), *sides)


def _maxpool(shape: Shape, o: Options) -> Shape:
    kernel, stride, padding = int(o["kernel"]), int(o["stride"]), int(o["padding"])
    ceil = bool(o["ceil"])
    return (*shape[:2], *(_windows(size, kernel, stride, padding, ceil) for size in shape[2:]))


_OUTPUTS: dict[str, Callable[[Shape, Options], Shape]] = {
    "conv": lambda s, o: _image(s, o, int(o["kernel"]), o["padding"]),
    "inverted": lambda s, o: _image(s, o, int(o["kernel"]), o["padding"]),
    "basic": lambda s, o: _image(s, o, 3, 1),
    "bottleneck": lambda s, o: _image(s, o, 3, 1),
    "fire": lambda s, o: (s[0], 2 * int(o["expand"]), *s[2:]),
    "maxpool": _maxpool,
    "avgpool": lambda s, o: (*s[:2], int(o["size"]), int(o["size"])),
    "flatten": lambda s, _: (s[0], math.prod(s[1:])),
    "dropout": lambda s, _: s,
    "dense": lambda s, o: (s[0], int(o["out"])),
}
