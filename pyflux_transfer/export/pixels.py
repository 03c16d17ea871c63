"""From raw pixels to what a network takes, as ONNX nodes: what `data.preprocess` does.

Pillow resizes in two passes and rounds to whole levels after each. So does the graph: a pass is a
product with the matrix of the filter's weights, which is made in the graph from the photo's size.
(ONNX's own Resize has such filters, but runtimes differ in them or lack them.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyflux_transfer.engines.onnx.graph import Graph
from pyflux_transfer.networks.preprocessing import Fit, Preprocessing

IMAGE = "image"
_BITS = 2.0**22  # to which Pillow rounds a filter's weights


@dataclass(frozen=True)
class _Axis:
    """What of an axis is shown: values' names, all double.

    `begin` is the first pixel's edge in the photo, `step` how much of it a shown pixel takes;
    shown are the places from `low` to before `high`.
    """

    begin: str
    step: str
    low: str
    high: str


def write_pixels(to: Graph, how: Preprocessing) -> str:
    """Write what makes (1, 3, crop, crop) float32 of the input (height, width, 3) uint8."""
    to.scope = "prepare"
    height, width = (_size(to, axis) for axis in (0, 1))
    shorter, longer = to.node("Min", height, width), to.node("Max", height, width)
    rows, columns = (_FITS[how.fit](to, how, size, shorter, longer) for size in (height, width))
    planes = to.node("Cast", to.node("Transpose", IMAGE, perm=(2, 0, 1)), to=_FLOAT)
    left = to.node("Transpose", _weights(to, how, columns, width), perm=(1, 0))
    above = _weights(to, how, rows, height)

    def across(x: str) -> str:
        return _levels(to, to.node("MatMul", x, left))

    def down(x: str) -> str:
        return _levels(to, to.node("MatMul", above, x))

    planes = to.choose(
        _rows_first(to, height, width, rows, columns),
        lambda: across(down(planes)), lambda: down(across(planes)),
    )  # fmt: skip
    if how.fit == "pad":
        planes = _on_background(to, how, planes, rows, columns)
    std = np.asarray(how.std)
    scale = (1 / (255 * std)).astype(np.float32)[:, None, None]
    shift = (-np.asarray(how.mean) / std).astype(np.float32)[:, None, None]
    planes = to.node("Mul", planes, to.constant(scale))
    planes = to.node("Add", planes, to.constant(shift))
    images = to.node("Unsqueeze", planes, to.constant([0], np.int64))
    to.scope = ""
    return images


def _rows_first(to: Graph, height: str, width: str, rows: _Axis, columns: _Axis) -> str:
    """Tell whether Pillow (13; found by trying) would take the rows of such a photo first."""
    fewer, narrower = (
        to.node("Sub", size, to.node("Sub", axis.high, axis.low))
        for size, axis in ((height, rows), (width, columns))
    )
    narrower = to.node("Max", narrower, _double(to, 0))
    less = to.node("Greater", fewer, to.node("Mul", narrower, _double(to, 2)))
    return to.node("Squeeze", less)


_FLOAT, _INT64, _DOUBLE = 1, 7, 11  # TensorProto's numbers


def _double(to: Graph, value: float) -> str:
    return to.constant(value, np.float64)


def _size(to: Graph, axis: int) -> str:
    size = to.node("Shape", IMAGE, start=axis, end=axis + 1)
    return to.node("Cast", size, to=_DOUBLE)


def _single(to: Graph, value: str) -> str:
    """Round to float32 and back, as Pillow does with the box that it is given."""
    return to.node("Cast", to.node("Cast", value, to=_FLOAT), to=_DOUBLE)


def _crop(to: Graph, how: Preprocessing, size: str, shorter: str, _: str) -> _Axis:
    """The middle of what the resized photo would be; see `preprocess._center`."""
    crop = _double(to, how.crop)
    resized = to.node("Div", to.node("Mul", _double(to, how.resize), size), shorter)
    resized = to.node("Floor", resized)
    half = to.node("Div", to.node("Sub", resized, crop), _double(to, 2))
    first = to.node("Round", half)  # halves to even, as Python's
    last = to.node("Add", first, crop)
    begin, end = (
        _single(to, to.node("Div", to.node("Mul", size, place), resized)) for place in (first, last)
    )
    step = to.node("Div", _single(to, to.node("Sub", end, begin)), crop)
    return _Axis(begin, step, _double(to, 0), crop)


def _stretch(to: Graph, how: Preprocessing, size: str, _: str, __: str) -> _Axis:
    crop = _double(to, how.crop)
    return _Axis(_double(to, 0), to.node("Div", size, crop), _double(to, 0), crop)


def _pad(to: Graph, how: Preprocessing, size: str, _: str, longer: str) -> _Axis:
    """The whole photo in the middle of a square; see `preprocess.shown`."""
    crop, one = _double(to, how.crop), _double(to, 1)
    scale = to.node("Div", crop, longer)
    begin = to.node("Div", to.node("Sub", longer, size), _double(to, 2))
    low = to.node("Round", to.node("Mul", begin, scale))
    low = to.node("Min", low, _double(to, how.crop - 1))
    high = to.node("Round", to.node("Mul", to.node("Add", begin, size), scale))
    high = to.node("Max", high, to.node("Add", low, one))
    step = to.node("Div", size, to.node("Sub", high, low))
    return _Axis(_double(to, 0), step, low, high)


_FITS: dict[Fit, Callable[[Graph, Preprocessing, str, str, str], _Axis]] = {
    "crop": _crop,
    "pad": _pad,
    "stretch": _stretch,
}


def _weights(to: Graph, how: Preprocessing, axis: _Axis, size: str) -> str:
    """Return the matrix (crop, size) float32 of a filter; what is not shown repeats the edge."""
    half = _double(to, 0.5)
    places = to.constant(np.arange(how.crop)[:, None] + 0.5, np.float64)
    places = to.node("Max", places, to.node("Add", axis.low, half))
    places = to.node("Min", places, to.node("Sub", axis.high, half))
    shown = to.node("Mul", to.node("Sub", places, axis.low), axis.step)
    centres = to.node("Add", axis.begin, shown)
    whole = to.node("Squeeze", to.node("Cast", size, to=_INT64))
    count = to.node("Range", to.constant(0, np.int64), whole, to.constant(1, np.int64))
    pixels = to.node("Add", to.node("Cast", count, to=_DOUBLE), half)
    wide = to.node("Max", axis.step, _double(to, 1))  # a larger picture is not blurred
    distance = to.node("Div", to.node("Sub", pixels, centres), wide)
    kernel = _KERNELS[how.interpolation](to, to.node("Abs", distance))
    total = to.node("ReduceSum", kernel, to.constant([1], np.int64), keepdims=1)
    share = to.node("Div", kernel, total)
    share = to.node("Mul", share, _double(to, _BITS))
    share = to.node("Div", to.node("Round", share), _double(to, _BITS))
    return to.node("Cast", share, to=_FLOAT)


def _triangle(to: Graph, x: str) -> str:
    return to.node("Max", to.node("Sub", _double(to, 1), x), _double(to, 0))


def _cubic(to: Graph, x: str) -> str:
    """Keys 1981 with Pillow's a = −0.5."""
    a = -0.5
    near = _polynomial(to, x, (a + 2, -(a + 3), 0, 1))
    far = _polynomial(to, x, (a, -5 * a, 8 * a, -4 * a))
    rest = to.node("Where", to.node("Less", x, _double(to, 2)), far, _double(to, 0))
    return to.node("Where", to.node("Less", x, _double(to, 1)), near, rest)


def _polynomial(to: Graph, x: str, factors: tuple[float, ...]) -> str:
    value = _double(to, factors[0])
    for factor in factors[1:]:
        value = to.node("Add", to.node("Mul", value, x), _double(to, factor))
    return value


_KERNELS: dict[str, Callable[[Graph, str], str]] = {"bilinear": _triangle, "bicubic": _cubic}


def _levels(to: Graph, x: str) -> str:
    """Round to whole levels, halves up, from 0 to 255."""
    rounded = to.node("Floor", to.node("Add", x, to.constant(0.5)))
    return to.node("Clip", rounded, to.constant(0), to.constant(255))


def _on_background(to: Graph, how: Preprocessing, x: str, rows: _Axis, columns: _Axis) -> str:
    shown = [_inside(to, how, axis) for axis in (rows, columns)]
    high = to.node("Unsqueeze", shown[0], to.constant([1], np.int64))
    both = to.node("And", high, shown[1])
    background = np.asarray(how.background, np.float32)[:, None, None]
    return to.node("Where", both, x, to.constant(background))


def _inside(to: Graph, how: Preprocessing, axis: _Axis) -> str:
    places = to.constant(np.arange(how.crop, dtype=np.float64), np.float64)
    behind = to.node("Not", to.node("Less", places, axis.low))
    return to.node("And", behind, to.node("Less", places, axis.high))
