"""DenseNet (Huang et al. 2017), by torchvision's names."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.networks.blocks import avgpool, conv, dense, flatten, maxpool
from pyflux_transfer.networks.tree import IDENTITY, act, block, chain, concat, meanpool
from pyflux_transfer.networks.tree import conv as convolve
from pyflux_transfer.networks.tree import norm as normalise
from pyflux_transfer.networks.units import Unit


def densenet(growth: int, depths: Sequence[int], first: int) -> tuple[Unit, ...]:
    """DenseNet-BC: each dense layer adds `growth` channels, each transition halves them."""
    units = [
        conv("features.conv0", "stem", 3, first, 7, norm="features.norm0", stride=2, padding=3),
        maxpool("features.pool0", "stem", 3, 2, 1),
    ]
    width = first
    for number, depth in enumerate(depths, start=1):
        stage = f"block{number}"
        for index in range(1, depth + 1):
            name = f"features.denseblock{number}.denselayer{index}"
            units.append(_layer(name, stage, width, growth))
            width += growth
        if number < len(depths):
            units.append(_transition(f"features.transition{number}", stage, width))
            width //= 2
    last = block("features.norm5", stage, width, width, normalise("features.norm5", width),
                 act("relu"))  # fmt: skip
    return (*units, last, avgpool(1), flatten(), dense("classifier", width, 1000))


def _layer(name: str, stage: str, inputs: int, growth: int) -> Unit:
    mid = 4 * growth
    new = chain(
        normalise(f"{name}.norm1", inputs),
        act("relu"),
        convolve(f"{name}.conv1", inputs, mid, 1),
        normalise(f"{name}.norm2", mid),
        act("relu"),
        convolve(f"{name}.conv2", mid, growth, 3, padding=1),
    )
    return block(name, stage, inputs, inputs + growth, concat(IDENTITY, new))


def _transition(name: str, stage: str, inputs: int) -> Unit:
    # Published with the pooling behind the convolution. A 1×1 convolution and a mean may change
    # places, and so it has a quarter of the work.
    return block(name, stage, inputs, inputs // 2, normalise(f"{name}.norm", inputs), act("relu"),
                 meanpool(2, 2), convolve(f"{name}.conv", inputs, inputs // 2, 1))  # fmt: skip
