"""The architecture families as rows of units."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.units import (
    Unit,
    avgpool,
    basic,
    bottleneck,
    conv,
    dense,
    dropout,
    fire,
    flatten,
    inverted,
    maxpool,
)


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


def alexnet() -> tuple[Unit, ...]:
    """AlexNet in the one-tower form (Krizhevsky 2014)."""
    return (
        conv("features.0", "block1", 3, 64, 11, stride=4, padding=2, bias=True),
        maxpool("features.2", "block1", 3, 2),
        conv("features.3", "block2", 64, 192, 5, padding=2, bias=True),
        maxpool("features.5", "block2", 3, 2),
        conv("features.6", "block3", 192, 384, 3, padding=1, bias=True),
        conv("features.8", "block4", 384, 256, 3, padding=1, bias=True),
        conv("features.10", "block5", 256, 256, 3, padding=1, bias=True),
        maxpool("features.12", "block5", 3, 2),
        avgpool(6),
        flatten(),
        dropout("classifier.0", 0.5),
        dense("classifier.1", 256 * 6 * 6, 4096, "relu"),
        dropout("classifier.3", 0.5),
        dense("classifier.4", 4096, 4096, "relu"),
        dense("classifier.6", 4096, 1000),
    )


def squeezenet1_1() -> tuple[Unit, ...]:
    """SqueezeNet 1.1; its classifier is a convolution followed by the mean over positions."""
    fires = {2: ((3, 64, 16, 64), (4, 128, 16, 64)), 3: ((6, 128, 32, 128), (7, 256, 32, 128))}
    units = [
        conv("features.0", "block1", 3, 64, 3, stride=2, bias=True),
        maxpool("features.2", "block1", 3, 2, ceil=True),
    ]
    for number, rows in fires.items():
        units += [fire(f"features.{i}", f"block{number}", n, s, e) for i, n, s, e in rows]
        units.append(maxpool(f"features.{rows[-1][0] + 1}", f"block{number}", 3, 2, ceil=True))
    last = ((9, 256, 48, 192), (10, 384, 48, 192), (11, 384, 64, 256), (12, 512, 64, 256))
    units += [fire(f"features.{i}", "block4", n, s, e) for i, n, s, e in last]
    return (
        *units,
        dropout("classifier.0", 0.5),
        conv("classifier.1", "head", 512, 1000, 1, bias=True),
        avgpool(1),
        flatten(),
    )


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
