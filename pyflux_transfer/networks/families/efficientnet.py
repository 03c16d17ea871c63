"""EfficientNet (Tan & Le 2019), by torchvision's names."""

from __future__ import annotations

import math

from pyflux_transfer.networks.blocks import avgpool, dense, dropout, flatten
from pyflux_transfer.networks.tree import IDENTITY, Node, act, add, block, chain, mean, multiply
from pyflux_transfer.networks.tree import conv as convolve
from pyflux_transfer.networks.tree import norm as normalise
from pyflux_transfer.networks.units import Unit

# expansion, kernel, stride, inputs, outputs, repeats
_ROWS = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)


def efficientnet(width: float, depth: float, dropped: float) -> tuple[Unit, ...]:
    """EfficientNet with compound scaling of width and depth."""
    first = _channels(32 * width)
    stem = _step("features.0", 3, first, 3, stride=2)
    units = [block("features.0", "stem", 3, first, *stem)]
    for number, (expand, kernel, stride, inputs, outputs, repeats) in enumerate(_ROWS, start=1):
        before, after = _channels(inputs * width), _channels(outputs * width)
        for index in range(math.ceil(repeats * depth)):
            units.append(
                _inverted(f"features.{number}.{index}", f"block{number}", before, after, expand,
                          kernel, stride if index == 0 else 1)
            )  # fmt: skip
            before = after
    last = 4 * before
    units.append(block("features.8", "block8", before, last, *_step("features.8", before, last, 1)))
    return (
        *units,
        avgpool(1),
        flatten(),
        dropout("classifier.0", dropped),
        dense("classifier.1", last, 1000),
    )


def _inverted(
    name: str, stage: str, inputs: int, outputs: int, expand: int, kernel: int, stride: int
) -> Unit:
    """Inverted residual with squeeze-and-excitation (Hu et al. 2018) before the projection."""
    mid = _channels(inputs * expand)
    names = (f"{name}.block.{number}" for number in range(4))
    nodes: list[Node] = []
    if mid != inputs:
        nodes += _step(next(names), inputs, mid, 1)
    nodes += _step(next(names), mid, mid, kernel, stride=stride, groups=mid)
    nodes += [_excited(next(names), mid, max(1, inputs // 4))]
    nodes += _step(next(names), mid, outputs, 1, activation=None)
    body = chain(*nodes)
    if stride == 1 and inputs == outputs:
        body = add(IDENTITY, body)
    return block(name, stage, inputs, outputs, body)


def _excited(name: str, channels: int, squeezed: int) -> Node:
    return multiply(
        IDENTITY,
        chain(
            mean(),
            convolve(f"{name}.fc1", channels, squeezed, 1, bias=True),
            act("silu"),
            convolve(f"{name}.fc2", squeezed, channels, 1, bias=True),
            act("sigmoid"),
        ),
    )


def _step(
    name: str,
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: str | None = "silu",
) -> list[Node]:
    """Convolution, BatchNorm, activation."""
    steps = [
        convolve(f"{name}.0", inputs, outputs, kernel, stride=stride, padding=kernel // 2,
                 groups=groups),
        normalise(f"{name}.1", outputs),
    ]  # fmt: skip
    return [*steps, act(activation)] if activation else steps


def _channels(wanted: float) -> int:
    """Round to a multiple of eight, never below nine tenths (torchvision's `_make_divisible`)."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
