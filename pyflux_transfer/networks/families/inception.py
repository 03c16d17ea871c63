"""GoogLeNet (Szegedy et al. 2014) and Inception v3 (Szegedy et al. 2015), by torchvision's names.

Without their auxiliary classifiers, which served the training from scratch only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pyflux_transfer.networks.blocks import avgpool, dense, dropout, flatten, maxpool
from pyflux_transfer.networks.blocks import conv as convolution
from pyflux_transfer.networks.families.shared import normed
from pyflux_transfer.networks.tree import Node, block, chain, concat, meanpool
from pyflux_transfer.networks.tree import maxpool as highest
from pyflux_transfer.networks.units import Unit

_EPS = 1e-3
_step = partial(normed, eps=_EPS, leaves=("conv", "bn"))


def _stem(name: str, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> Unit:
    return convolution(name, "stem", inputs, outputs, kernel, layer=f"{name}.conv",
                       norm=f"{name}.bn", stride=stride, padding=padding, eps=_EPS)  # fmt: skip


def _head(width: int, dropped: float) -> tuple[Unit, ...]:
    return avgpool(1), flatten(), dropout("dropout", dropped), dense("fc", width, 1000)


# --- GoogLeNet ----------------------------------------------------------------------------------

# channels: alone; ahead of the first 3×3, of it; ahead of the second, of it; behind the pooling
_GOOGLENET = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_POOLED = {
    "3b": ("maxpool3", 3),
    "4e": ("maxpool4", 2),
}  # block → the pooling behind it, its window


def googlenet() -> tuple[Unit, ...]:
    """GoogLeNet with BatchNorm, as torchvision has it: 3×3 where the paper has 5×5."""
    units = [
        _stem("conv1", 3, 64, 7, 2, 3),
        maxpool("maxpool1", "stem", 3, 2, ceil=True),
        _stem("conv2", 64, 64, 1, 1, 0),
        _stem("conv3", 64, 192, 3, 1, 1),
        maxpool("maxpool2", "stem", 3, 2, ceil=True),
    ]
    width = 192
    for place, channels in _GOOGLENET.items():
        stage = f"inception{place[0]}"
        units.append(_first(f"inception{place}", stage, width, channels))
        width = int(units[-1].options["out"])
        if place in _POOLED:
            name, kernel = _POOLED[place]
            units.append(maxpool(name, stage, kernel, 2, ceil=True))
    return (*units, *_head(width, 0.2))


def _first(name: str, stage: str, inputs: int, channels: tuple[int, ...]) -> Unit:
    alone, before3, three, before5, five, pooled = channels
    body = concat(
        _step(f"{name}.branch1", inputs, alone, 1),
        chain(
            _step(f"{name}.branch2.0", inputs, before3, 1),
            _step(f"{name}.branch2.1", before3, three, 3),
        ),
        chain(
            _step(f"{name}.branch3.0", inputs, before5, 1),
            _step(f"{name}.branch3.1", before5, five, 3),
        ),
        chain(highest(3, 1, 1), _step(f"{name}.branch4.1", inputs, pooled, 1)),
    )
    return block(name, stage, inputs, alone + three + five + pooled, body)


# --- Inception v3 -------------------------------------------------------------------------------


def inception_v3() -> tuple[Unit, ...]:
    """Inception v3; made for images of 299 × 299."""
    units = [
        _stem("Conv2d_1a_3x3", 3, 32, 3, 2, 0),
        _stem("Conv2d_2a_3x3", 32, 32, 3, 1, 0),
        _stem("Conv2d_2b_3x3", 32, 64, 3, 1, 1),
        maxpool("maxpool1", "stem", 3, 2),
        _stem("Conv2d_3b_1x1", 64, 80, 1, 1, 0),
        _stem("Conv2d_4a_3x3", 80, 192, 3, 1, 0),
        maxpool("maxpool2", "stem", 3, 2),
    ]
    width = 192
    for place, (make, outputs) in _INCEPTION_V3.items():
        name = f"Mixed_{place}"
        units.append(block(name, f"mixed{place[0]}", width, outputs, make(name, width)))
        width = outputs
    return (*units, *_head(width, 0.5))


def _row(name: str, *steps: tuple[str, int, int | tuple[int, int]], inputs: int) -> Node:
    """Convolutions one after another: name below the block's, outputs, kernel."""
    nodes = []
    for leaf, outputs, kernel in steps:
        nodes.append(_step(f"{name}.{leaf}", inputs, outputs, kernel))
        inputs = outputs
    return chain(*nodes)


def _halved(name: str, inputs: int, outputs: int) -> Node:
    """The 3×3 convolution without padding that halves the grid."""
    return _step(name, inputs, outputs, 3, stride=2, padding=0)


def _pooled(name: str, inputs: int, outputs: int) -> Node:
    return chain(meanpool(3, 1, 1), _step(f"{name}.branch_pool", inputs, outputs, 1))


def _a(name: str, inputs: int, *, pooled: int) -> Node:
    return concat(
        _row(name, ("branch1x1", 64, 1), inputs=inputs),
        _row(name, ("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5), inputs=inputs),
        _row(name, ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3),
             inputs=inputs),
        _pooled(name, inputs, pooled),
    )  # fmt: skip


def _b(name: str, inputs: int) -> Node:
    return concat(
        _halved(f"{name}.branch3x3", inputs, 384),
        chain(
            _row(name, ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), inputs=inputs),
            _halved(f"{name}.branch3x3dbl_3", 96, 96),
        ),
        highest(3, 2),
    )


def _c(name: str, inputs: int, *, seven: int) -> Node:
    wide, tall = (1, 7), (7, 1)
    return concat(
        _row(name, ("branch1x1", 192, 1), inputs=inputs),
        _row(name, ("branch7x7_1", seven, 1), ("branch7x7_2", seven, wide),
             ("branch7x7_3", 192, tall), inputs=inputs),
        _row(name, ("branch7x7dbl_1", seven, 1), ("branch7x7dbl_2", seven, tall),
             ("branch7x7dbl_3", seven, wide), ("branch7x7dbl_4", seven, tall),
             ("branch7x7dbl_5", 192, wide), inputs=inputs),
        _pooled(name, inputs, 192),
    )  # fmt: skip


def _d(name: str, inputs: int) -> Node:
    return concat(
        chain(
            _row(name, ("branch3x3_1", 192, 1), inputs=inputs),
            _halved(f"{name}.branch3x3_2", 192, 320),
        ),
        chain(
            _row(name, ("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)),
                 ("branch7x7x3_3", 192, (7, 1)), inputs=inputs),
            _halved(f"{name}.branch7x7x3_4", 192, 192),
        ),
        highest(3, 2),
    )  # fmt: skip


def _e(name: str, inputs: int) -> Node:
    def both(leaf: str) -> Node:
        """The last 3×3 as 1×3 and 3×1 side by side."""
        return concat(
            _step(f"{name}.{leaf}a", 384, 384, (1, 3)), _step(f"{name}.{leaf}b", 384, 384, (3, 1))
        )

    return concat(
        _row(name, ("branch1x1", 320, 1), inputs=inputs),
        chain(_row(name, ("branch3x3_1", 384, 1), inputs=inputs), both("branch3x3_2")),
        chain(
            _row(name, ("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3), inputs=inputs),
            both("branch3x3dbl_3"),
        ),
        _pooled(name, inputs, 192),
    )


# block → what makes it, its channels
_INCEPTION_V3: dict[str, tuple[Callable[[str, int], Node], int]] = {
    "5b": (partial(_a, pooled=32), 256),
    "5c": (partial(_a, pooled=64), 288),
    "5d": (partial(_a, pooled=64), 288),
    "6a": (_b, 768),
    "6b": (partial(_c, seven=128), 768),
    "6c": (partial(_c, seven=160), 768),
    "6d": (partial(_c, seven=160), 768),
    "6e": (partial(_c, seven=192), 768),
    "7a": (_d, 1280),
    "7b": (_e, 2048),
    "7c": (_e, 2048),
}
