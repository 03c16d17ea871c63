"""ResNet (He et al. 2015), ResNeXt (Xie et al. 2017), Wide ResNet (Zagoruyko & Komodakis 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.networks.blocks import (
    avgpool,
    basic,
    bottleneck,
    conv,
    dense,
    flatten,
    maxpool,
)
from pyflux_transfer.networks.units import Unit


def resnet(block: str, depths: Sequence[int], groups: int = 1, base: int = 64) -> tuple[Unit, ...]:
    """ResNet, ResNeXt and Wide ResNet; `base` is the width of a group at 64 channels."""
    stem = conv("conv1", "stem", 3, 64, 7, norm="bn1", stride=2, padding=3)
    units = [stem, maxpool("maxpool", "stem", 3, 2, 1)]
    width = 64
    for number, depth in enumerate(depths, start=1):
        planes = 64 * 2 ** (number - 1)
        for index in range(depth):
            name, stage = f"layer{number}.{index}", f"stage{number}"
            stride = 2 if number > 1 and index == 0 else 1
            if block == "basic":
                units.append(basic(name, stage, width, planes, stride))
                width = planes
            else:
                mid = planes * base // 64 * groups
                units.append(bottleneck(name, stage, width, mid, planes * 4, stride, groups))
                width = planes * 4
    return (*units, avgpool(1), flatten(), dense("fc", width, 1000))
