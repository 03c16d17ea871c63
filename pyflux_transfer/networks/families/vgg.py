"""VGG (Simonyan & Zisserman 2014), with and without BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.networks.blocks import avgpool, conv, dense, dropout, flatten, maxpool
from pyflux_transfer.networks.units import Unit


def vgg(convolutions: Sequence[int], norm: bool) -> tuple[Unit, ...]:
    """VGG with the given number of 3×3 convolutions in each of its five blocks."""
    units: list[Unit] = []
    width, index = 3, 0
    widths = (64, 128, 256, 512, 512)
    for number, (count, outputs) in enumerate(zip(convolutions, widths, strict=True), start=1):
        stage = f"block{number}"
        for _ in range(count):
            bn = f"features.{index + 1}" if norm else None
            name = f"features.{index}"
            units.append(conv(name, stage, width, outputs, 3, norm=bn, padding=1, bias=True))
            width, index = outputs, index + (3 if norm else 2)
        units.append(maxpool(f"features.{index}", stage, 2, 2))
        index += 1
    return (
        *units,
        avgpool(7),
        flatten(),
        dense("classifier.0", 512 * 7 * 7, 4096, "relu"),
        dropout("classifier.2", 0.5),
        dense("classifier.3", 4096, 4096, "relu"),
        dropout("classifier.5", 0.5),
        dense("classifier.6", 4096, 1000),
    )
