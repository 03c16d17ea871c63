"""EfficientNet (Tan & Le 2019) and EfficientNetV2 (Tan & Le 2021), by torchvision's names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pyflux_transfer.networks.blocks import avgpool, dense, dropout, flatten
from pyflux_transfer.networks.families.shared import divisible, excited, normed
from pyflux_transfer.networks.tree import IDENTITY, Node, add, block, chain
from pyflux_transfer.networks.units import Unit


class Row(NamedTuple):
    """A run of blocks; a fused one has a full convolution for the first two of a block."""

    expand: int
    kernel: int
    stride: int
    inputs: int
    outputs: int
    repeats: int
    fused: bool = False


B = (
    Row(1, 3, 1, 32, 16, 1),
    Row(6, 3, 2, 16, 24, 2),
    Row(6, 5, 2, 24, 40, 2),
    Row(6, 3, 2, 40, 80, 3),
    Row(6, 5, 1, 80, 112, 3),
    Row(6, 5, 2, 112, 192, 4),
    Row(6, 3, 1, 192, 320, 1),
)
V2_S = (
    Row(1, 3, 1, 24, 24, 2, fused=True),
    Row(4, 3, 2, 24, 48, 4, fused=True),
    Row(4, 3, 2, 48, 64, 4, fused=True),
    Row(4, 3, 2, 64, 128, 6),
    Row(6, 3, 1, 128, 160, 9),
    Row(6, 3, 2, 160, 256, 15),
)


def efficientnet(width: float, depth: float, dropped: float) -> tuple[Unit, ...]:
    """EfficientNet B0 with its width and depth multiplied."""
    rows = [
        row._replace(
            inputs=divisible(row.inputs * width),
            outputs=divisible(row.outputs * width),
            repeats=math.ceil(row.repeats * depth),
        )
        for row in B
    ]
    return units_of(rows, 4 * rows[-1].outputs, dropped, eps=1e-5)


def efficientnet_v2(rows: Sequence[Row], dropped: float) -> tuple[Unit, ...]:
    """EfficientNetV2 of the given runs of blocks."""
    return units_of(rows, 1280, dropped, eps=1e-3)


def units_of(rows: Sequence[Row], last: int, dropped: float, eps: float) -> tuple[Unit, ...]:
    """Stem, a stage for each row, a 1×1 convolution to `last` channels, classifier."""
    first, before, top = rows[0].inputs, rows[-1].outputs, len(rows) + 1

    def step(name: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> Node:
        return normed(name, inputs, outputs, kernel, stride=stride, activation="silu", eps=eps)

    units = [block("features.0", "stem", 3, first, step("features.0", 3, first, 3, 2))]
    for number, row in enumerate(rows, start=1):
        for index in range(row.repeats):
            one = row if index == 0 else row._replace(inputs=row.outputs, stride=1)
            units.append(_unit(f"features.{number}.{index}", f"block{number}", one, eps))
    name = f"features.{top}"
    units.append(block(name, f"block{top}", before, last, step(name, before, last, 1)))
    return (
        *units,
        avgpool(1),
        flatten(),
        dropout("classifier.0", dropped),
        dense("classifier.1", last, 1000),
    )


def _unit(name: str, stage: str, row: Row, eps: float) -> Unit:
    body = (_fused if row.fused else _inverted)(f"{name}.block", row, eps)
    if row.stride == 1 and row.inputs == row.outputs:
        body = add(IDENTITY, body)
    return block(name, stage, row.inputs, row.outputs, body)


def _inverted(name: str, row: Row, eps: float) -> Node:
    """[1×1 expansion,] depthwise, squeeze and excitation, 1×1 projection."""
    mid = divisible(row.inputs * row.expand)
    names = (f"{name}.{number}" for number in range(4))
    nodes: list[Node] = []
    if mid != row.inputs:
        nodes.append(normed(next(names), row.inputs, mid, 1, activation="silu", eps=eps))
    nodes += [
        normed(next(names), mid, mid, row.kernel, stride=row.stride, groups=mid,
               activation="silu", eps=eps),
        excited(next(names), mid, max(1, row.inputs // 4), "silu", "sigmoid"),
        normed(next(names), mid, row.outputs, 1, activation=None, eps=eps),
    ]  # fmt: skip
    return chain(*nodes)


def _fused(name: str, row: Row, eps: float) -> Node:
    """Expansion by a full convolution, 1×1 projection; without expansion the first alone."""
    mid = divisible(row.inputs * row.expand)
    wide = row.outputs if mid == row.inputs else mid
    first = normed(f"{name}.0", row.inputs, wide, row.kernel, stride=row.stride,
                   activation="silu", eps=eps)  # fmt: skip
    if mid == row.inputs:
        return first
    return chain(first, normed(f"{name}.1", mid, row.outputs, 1, activation=None, eps=eps))
