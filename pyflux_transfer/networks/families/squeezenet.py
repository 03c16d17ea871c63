"""SqueezeNet (Iandola et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.networks.blocks import avgpool, conv, dropout, fire, flatten, maxpool
from pyflux_transfer.networks.units import Unit

# (squeeze, expand) of the fire units of each block; a block ends in a pooling, but for the last.
V1_0 = (
    ((16, 64), (16, 64), (32, 128)),
    ((32, 128), (48, 192), (48, 192), (64, 256)),
    ((64, 256),),
)
V1_1 = (
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)


def squeezenet(
    width: int, kernel: int, blocks: Sequence[Sequence[tuple[int, int]]]
) -> tuple[Unit, ...]:
    """SqueezeNet; its classifier is a convolution followed by the mean over positions.

    `width` and `kernel` are of the first convolution.
    """
    units = [conv("features.0", "block1", 3, width, kernel, stride=2, bias=True)]
    index = 2  # the activation of the convolution is number 1
    for number, rows in enumerate(blocks, start=2):
        units.append(maxpool(f"features.{index}", f"block{number - 1}", 3, 2, ceil=True))
        for squeeze, expand in rows:
            index += 1
            units.append(fire(f"features.{index}", f"block{number}", width, squeeze, expand))
            width = 2 * expand
        index += 1
    return (
        *units,
        dropout("classifier.0", 0.5),
        conv("classifier.1", "head", width, 1000, 1, bias=True),
        avgpool(1),
        flatten(),
    )
