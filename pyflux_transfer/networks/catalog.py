"""MODELS: one row an architecture, with everything that is known about it before it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.resources import files
from typing import Any

from pyflux_transfer.errors import lookup
from pyflux_transfer.networks.families import (
    alexnet,
    convnext,
    densenet,
    efficientnet,
    inception,
    mobile,
    mobilenet_v3,
    resnet,
    squeezenet,
    vgg,
    vit,
)
from pyflux_transfer.networks.preprocessing import IMAGENET, Preprocessing
from pyflux_transfer.networks.units import Unit, stages
from pyflux_transfer.networks.weights.table import WEIGHTS, Weights

Constructor = tuple[str, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Architecture:
    """One row: how the network is built, in both worlds, and what is published about it."""

    name: str
    make: Callable[[], tuple[Unit, ...]]
    parameters: int
    metalhead: Constructor | None  # constructor, arguments
    weights: tuple[Weights, ...] = ()  # the default first
    own: str = ""  # the call in Julia that makes its layers, of a network of one's own

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The network with its 1000-class classifier."""
        return self.make()

    @property
    def preprocessing(self) -> Preprocessing:
        """What its default weights want."""
        return self.weights[0].preprocessing if self.weights else IMAGENET

    @property
    def classes(self) -> int:
        """Outputs of its own head: ImageNet's classes, or what one's own constructor gives."""
        return int(self.units[-1].options["out"]) if self.own else 1000

    def tagged(self, tag: str) -> Weights:
        """Return the published weights of a tag; "imagenet" is the default one."""
        rows = {row.tag: row for row in self.weights}
        if tag == "imagenet" and self.weights:
            return self.weights[0]
        return lookup(rows, tag, f"weights tag of {self.name}")

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names in order; each can be a cut."""
        return stages(self.units)

    @property
    def statistics(self) -> int:
        """Count of BatchNorm statistics."""
        return sum(unit.statistics for unit in self.units)


def _resnet(
    name: str,
    depths: tuple[int, ...],
    parameters: int,
    metalhead: Constructor | None,
    block: str = "bottleneck",
    groups: int = 1,
    base: int = 64,
) -> Architecture:
    make = partial(resnet.resnet, block, depths, groups, base)
    return Architecture(name, make, parameters, metalhead, WEIGHTS[name])


def _vgg(depth: int, blocks: tuple[int, ...], parameters: int, norm: bool = False) -> Architecture:
    name = f"vgg{depth}_bn" if norm else f"vgg{depth}"
    make = partial(vgg.vgg, blocks, norm)
    metalhead = ("VGG", (depth,), {"batchnorm": norm})
    return Architecture(name, make, parameters, metalhead, WEIGHTS[name])


def _efficientnet(
    variant: str, width: float, depth: float, dropped: float, parameters: int
) -> Architecture:
    name = f"efficientnet_{variant}"
    make = partial(efficientnet.efficientnet, width, depth, dropped)
    return Architecture(name, make, parameters, None, WEIGHTS[name])


def _densenet(
    depth: int, growth: int, depths: tuple[int, ...], first: int, parameters: int
) -> Architecture:
    name = f"densenet{depth}"
    make = partial(densenet.densenet, growth, depths, first)
    return Architecture(name, make, parameters, None, WEIGHTS[name])


def _convnext(name: str, depths: tuple[int, ...], width: int, parameters: int) -> Architecture:
    make = partial(convnext.convnext, depths, tuple(width * 2**i for i in range(4)))
    return Architecture(name, make, parameters, None, WEIGHTS[name])


def _vit(name: str, size: tuple[int, int, int], patch: int, parameters: int, side: int = 224
         ) -> Architecture:  # fmt: skip
    sizes = {_BASE: "base", _LARGE: "large"}
    metalhead = ("ViT", (sizes[size],), {"imsize": [side, side], "patch_size": [patch, patch]})
    make = partial(vit.vit, patch, *size, side)
    return Architecture(name, make, parameters, metalhead, WEIGHTS[name])


def _dinov2(name: str, size: tuple[int, int, int], parameters: int) -> Architecture:
    return Architecture(name, partial(vit.dinov2, *size), parameters, None, WEIGHTS[name])


# Transformers' width, depth, heads.
_SMALL, _BASE, _LARGE = (384, 12, 6), (768, 12, 12), (1024, 24, 16)

_18, _34, _50 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3)
_101, _152 = (3, 4, 23, 3), (3, 8, 36, 3)
_A, _B, _D, _E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

_ROWS = (
    _resnet("resnet18", _18, 11_689_512, ("ResNet", (18,), {}), "basic"),
    _resnet("resnet34", _34, 21_797_672, ("ResNet", (34,), {}), "basic"),
    _resnet("resnet50", _50, 25_557_032, ("ResNet", (50,), {})),
    _resnet("resnet101", _101, 44_549_160, ("ResNet", (101,), {})),
    _resnet("resnet152", _152, 60_192_808, ("ResNet", (152,), {})),
    _resnet("wide_resnet50_2", _50, 68_883_240, ("WideResNet", (50,), {}), base=128),
    _resnet("wide_resnet101_2", _101, 126_886_696, ("WideResNet", (101,), {}), base=128),
    _resnet("resnext50_32x4d", _50, 25_028_904,
            ("ResNeXt", (50,), {"cardinality": 32, "base_width": 4}), groups=32, base=4),
    _resnet("resnext101_32x8d", _101, 88_791_336,
            ("ResNeXt", (101,), {"cardinality": 32, "base_width": 8}), groups=32, base=8),
    _resnet("resnext101_64x4d", _101, 83_455_272,
            ("ResNeXt", (101,), {"cardinality": 64, "base_width": 4}), groups=64, base=4),
    _vgg(11, _A, 132_863_336),
    _vgg(13, _B, 133_047_848),
    _vgg(16, _D, 138_357_544),
    _vgg(19, _E, 143_667_240),
    _vgg(11, _A, 132_868_840, norm=True),
    _vgg(13, _B, 133_053_736, norm=True),
    _vgg(16, _D, 138_365_992, norm=True),
    _vgg(19, _E, 143_678_248, norm=True),
    Architecture("alexnet", alexnet.alexnet, 61_100_840, ("AlexNet", (), {}), WEIGHTS["alexnet"]),
    Architecture("mobilenet_v2", mobile.mobilenet_v2, 3_504_872, ("MobileNetv2", (), {}),
                 WEIGHTS["mobilenet_v2"]),
    Architecture("mobilenet_v3_small", partial(mobilenet_v3.mobilenet_v3, mobilenet_v3.SMALL, 1024),
                 2_542_856, None, WEIGHTS["mobilenet_v3_small"]),
    Architecture("mobilenet_v3_large", partial(mobilenet_v3.mobilenet_v3, mobilenet_v3.LARGE, 1280),
                 5_483_032, None, WEIGHTS["mobilenet_v3_large"]),
    Architecture("squeezenet1_0", partial(squeezenet.squeezenet, 96, 7, squeezenet.V1_0),
                 1_248_424, None, WEIGHTS["squeezenet1_0"]),
    Architecture("squeezenet1_1", partial(squeezenet.squeezenet, 64, 3, squeezenet.V1_1),
                 1_235_496, ("SqueezeNet", (), {}), WEIGHTS["squeezenet1_1"]),
    Architecture("efficientnet_lite0", mobile.efficientnet_lite0, 4_652_008, None,
                 WEIGHTS["efficientnet_lite0"]),
    _efficientnet("b0", 1.0, 1.0, 0.2, 5_288_548),
    _efficientnet("b1", 1.0, 1.1, 0.2, 7_794_184),
    _efficientnet("b2", 1.1, 1.2, 0.3, 9_109_994),
    _efficientnet("b3", 1.2, 1.4, 0.3, 12_233_232),
    _efficientnet("b4", 1.4, 1.8, 0.4, 19_341_616),
    Architecture("efficientnet_v2_s", partial(efficientnet.efficientnet_v2, efficientnet.V2_S, 0.2),
                 21_458_488, None, WEIGHTS["efficientnet_v2_s"]),
    _densenet(121, 32, (6, 12, 24, 16), 64, 7_978_856),
    _densenet(161, 48, (6, 12, 36, 24), 96, 28_681_000),
    _densenet(169, 32, (6, 12, 32, 32), 64, 14_149_480),
    _densenet(201, 32, (6, 12, 48, 32), 64, 20_013_928),
    # Without auxiliary classifiers; torchvision's 27,161,264 of inception_v3 count one.
    Architecture("googlenet", inception.googlenet, 6_624_904, None, WEIGHTS["googlenet"]),
    Architecture("inception_v3", inception.inception_v3, 23_834_568, None, WEIGHTS["inception_v3"]),
    _convnext("convnext_tiny", (3, 3, 9, 3), 96, 28_589_128),
    _convnext("convnext_small", (3, 3, 27, 3), 96, 50_223_688),
    _convnext("convnext_base", (3, 3, 27, 3), 128, 88_591_464),
    _vit("vit_b_16", _BASE, 16, 86_567_656),
    _vit("vit_b_32", _BASE, 32, 88_224_232),
    _vit("vit_l_16", _LARGE, 16, 304_326_632),
    _vit("vit_l_32", _LARGE, 32, 306_535_400),
    # Its weights for larger images have more positions, so they are networks of their own.
    _vit("vit_b_16_384", _BASE, 16, 86_859_496, side=384),
    _vit("vit_l_16_512", _LARGE, 16, 305_174_504, side=512),
    # The published counts (22,056,192 and 86,579,712) and a linear head.
    _dinov2("dinov2_vits14", _SMALL, 22_056_192 + 769_000),
    _dinov2("dinov2_vitb14", _BASE, 86_579_712 + 1_537_000),
)  # fmt: skip

MODELS: dict[str, Architecture] = {row.name: row for row in _ROWS}


def architecture(name: str) -> Architecture:
    """Return the row of an architecture; raise InputError with the nearest name otherwise."""
    return lookup(MODELS, name, "architecture", see="See: pyflux-transfer models")


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1000 classes, as torchvision spells them, in their order."""
    text = files(__package__).joinpath("imagenet_classes.txt").read_text("utf-8")
    return tuple(text.splitlines())
