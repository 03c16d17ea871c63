"""The shapes that pass through a network, from the units alone: nothing is built or computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Shape
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
        if unit.kind in ("flatten", "dropout"):
            fits = len(shape) >= 2
        else:
            fits = len(shape) == (2 if unit.kind == "dense" else 4)
        width = unit.options.get("in", shape[1] if len(shape) > 1 else None)
        output = _OUTPUTS[unit.kind](shape, unit.options) if fits and shape[1] == width else ()
        if min(output, default=0) < 1:
            raise InputError(
                f"Unit '{unit.name}' cannot take an input of shape {shape}. "
                "The image may be too small, or come from another cut."
            )
        shapes.append(UnitShapes(shape, output))
        shape = output
    return shapes


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
