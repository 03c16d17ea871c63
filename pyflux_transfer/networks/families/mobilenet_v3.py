"""MobileNetV3 (Howard et al. 2019), by torchvision's names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from pyflux_transfer.networks.blocks import avgpool, dense, dropout, flatten
from pyflux_transfer.networks.families import shared
from pyflux_transfer.networks.families.shared import divisible, excited
from pyflux_transfer.networks.tree import IDENTITY, Node, add, block, chain
from pyflux_transfer.networks.units import Unit

_FIRST = 16

_normed = partial(shared.normed, eps=1e-3, momentum=0.01)


class Row(NamedTuple):
    """An inverted residual; `excite` says whether it has squeeze and excitation."""

    kernel: int
    mid: int
    outputs: int
    excite: bool
    activation: str
    stride: int = 1


SMALL = (
    Row(3, 16, 16, True, "relu", 2),
    Row(3, 72, 24, False, "relu", 2),
    Row(3, 88, 24, False, "relu"),
    Row(5, 96, 40, True, "hardswish", 2),
    Row(5, 240, 40, True, "hardswish"),
    Row(5, 240, 40, True, "hardswish"),
    Row(5, 120, 48, True, "hardswish"),
    Row(5, 144, 48, True, "hardswish"),
    Row(5, 288, 96, True, "hardswish", 2),
    Row(5, 576, 96, True, "hardswish"),
    Row(5, 576, 96, True, "hardswish"),
)
LARGE = (
    Row(3, 16, 16, False, "relu"),
    Row(3, 64, 24, False, "relu", 2),
    Row(3, 72, 24, False, "relu"),
    Row(5, 72, 40, True, "relu", 2),
    Row(5, 120, 40, True, "relu"),
    Row(5, 120, 40, True, "relu"),
    Row(3, 240, 80, False, "hardswish", 2),
    Row(3, 200, 80, False, "hardswish"),
    Row(3, 184, 80, False, "hardswish"),
    Row(3, 184, 80, False, "hardswish"),
    Row(3, 480, 112, True, "hardswish"),
    Row(3, 672, 112, True, "hardswish"),
    Row(5, 672, 160, True, "hardswish", 2),
    Row(5, 960, 160, True, "hardswish"),
    Row(5, 960, 160, True, "hardswish"),
)


def mobilenet_v3(rows: Sequence[Row], hidden: int) -> tuple[Unit, ...]:
    """MobileNetV3 of the given blocks, a stage for each width; `hidden` of the classifier."""
    stem = _normed("features.0", 3, _FIRST, 3, stride=2, activation="hardswish")
    units = [block("features.0", "stem", 3, _FIRST, stem)]
    before, stage = _FIRST, 0
    for index, row in enumerate(rows, start=1):
        stage += index == 1 or row.outputs != before
        units.append(_inverted(f"features.{index}", f"block{stage}", before, row))
        before = row.outputs
    name, last = f"features.{len(rows) + 1}", 6 * before
    top = _normed(name, before, last, 1, activation="hardswish")
    units.append(block(name, f"block{stage + 1}", before, last, top))
    return (
        *units,
        avgpool(1),
        flatten(),
        dense("classifier.0", last, hidden, "hardswish"),
        dropout("classifier.2", 0.2),
        dense("classifier.3", hidden, 1000),
    )


def _inverted(name: str, stage: str, inputs: int, row: Row) -> Unit:
    """[1×1 expansion,] depthwise, [squeeze and excitation,] 1×1 projection."""
    mid, kind = row.mid, row.activation
    names = (f"{name}.block.{number}" for number in range(4))
    nodes: list[Node] = []
    if mid != inputs:
        nodes.append(_normed(next(names), inputs, mid, 1, activation=kind))
    nodes.append(_normed(next(names), mid, mid, row.kernel, stride=row.stride, groups=mid,
                        activation=kind))  # fmt: skip
    if row.excite:
        nodes.append(excited(next(names), mid, divisible(mid // 4), "relu", "hardsigmoid"))
    nodes.append(_normed(next(names), mid, row.outputs, 1, activation=None))
    body = chain(*nodes)
    if row.stride == 1 and inputs == row.outputs:
        body = add(IDENTITY, body)
    return block(name, stage, inputs, row.outputs, body)
