"""Inverted residuals: MobileNetV2 (Sandler et al. 2018) and EfficientNet-Lite (Tan & Le 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.networks.blocks import avgpool, conv, dense, dropout, flatten, inverted
from pyflux_transfer.networks.units import Unit

# expansion, outputs, repeats, stride, kernel
_MOBILENET_V2 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 32, 3, 2, 3),
    (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
)
_EFFICIENTNET_B0 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


Leaves = tuple[tuple[str, str], ...]

# The inverted blocks' leaves: (convolution, norm) of expansion, depthwise, projection.
_MOBILENET_LEAVES: Leaves = (
    ("conv.0.0", "conv.0.1"),
    ("conv.1.0", "conv.1.1"),
    ("conv.2", "conv.3"),
)
_MOBILENET_FIRST: Leaves = (("conv.0.0", "conv.0.1"), ("conv.1", "conv.2"))
_EFFICIENT_LEAVES: Leaves = (
    ("block.0.0", "block.0.1"),
    ("block.1.0", "block.1.1"),
    ("block.2.0", "block.2.1"),
)


def _inverted_blocks(
    rows: Sequence[tuple[int, int, int, int, int]], *, flat: bool, same: bool, eps: float
) -> list[Unit]:
    """The seven groups of inverted residuals; `flat` numbers blocks through (features.1 …)."""
    units: list[Unit] = []
    width = 32
    for number, (expand, outputs, repeats, stride, kernel) in enumerate(rows, start=1):
        for index in range(repeats):
            if flat:
                name = f"features.{len(units) + 1}"
                leaves: Leaves = _MOBILENET_FIRST if expand == 1 else _MOBILENET_LEAVES
            else:
                name = f"features.{number}.{index}"
                leaves = _EFFICIENT_LEAVES[: 2 if expand == 1 else 3]
            units.append(
                inverted(name, f"block{number}", width, outputs, kernel=kernel, expand=expand,
                         stride=stride if index == 0 else 1, same=same, eps=eps, leaves=leaves)
            )  # fmt: skip
            width = outputs
    return units


def _mobile(top: str, blocks: list[Unit], *, padding: int | str, eps: float) -> tuple[Unit, ...]:
    """Stem, inverted blocks, 1×1 convolution to 1280, classifier: the mobile families."""
    return (
        conv("features.0", "stem", 3, 32, 3, layer="features.0.0", norm="features.0.1",
             stride=2, padding=padding, activation="relu6", eps=eps),
        *blocks,
        conv(top, "block8", 320, 1280, 1, layer=f"{top}.0", norm=f"{top}.1",
             activation="relu6", eps=eps),
        avgpool(1),
        flatten(),
        dropout("classifier.0", 0.2),
        dense("classifier.1", 1280, 1000),
    )  # fmt: skip


def mobilenet_v2() -> tuple[Unit, ...]:
    """MobileNetV2 at width 1.0."""
    blocks = _inverted_blocks(_MOBILENET_V2, flat=True, same=False, eps=1e-5)
    return _mobile("features.18", blocks, padding=1, eps=1e-5)


def efficientnet_lite0() -> tuple[Unit, ...]:
    """EfficientNet-Lite0: B0 without squeeze-and-excitation, with ReLU6 and TensorFlow's padding.

    Names follow torchvision's EfficientNet, which numbers the steps of a block through.
    Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    blocks = _inverted_blocks(_EFFICIENTNET_B0, flat=False, same=True, eps=1e-3)
    return _mobile("features.8", blocks, padding="same", eps=1e-3)
