"""Shapes from the units alone, against the sizes the networks' authors and PyTorch give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.blocks import maxpool
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.shapes import trace

# what enters the pooling or flattening before the classifier, for images of 224 × 224
BODY = {
    "resnet18": (512, 7, 7),
    "resnet50": (2048, 7, 7),
    "resnext101_32x8d": (2048, 7, 7),
    "vgg16": (512, 7, 7),
    "alexnet": (256, 6, 6),
    "squeezenet1_1": (512, 13, 13),
    "mobilenet_v2": (1280, 7, 7),
    "efficientnet_lite0": (1280, 7, 7),
    "squeezenet1_0": (512, 13, 13),
    "efficientnet_b4": (1792, 7, 7),
    "efficientnet_v2_s": (1280, 7, 7),
    "mobilenet_v3_small": (576, 7, 7),
    "densenet121": (1024, 7, 7),
    "googlenet": (1024, 7, 7),
    "inception_v3": (2048, 5, 5),
    "convnext_tiny": (768,),
    "vit_b_16": (768,),
    "dinov2_vits14": (2 * 384,),
}


@pytest.mark.parametrize("name", BODY)
def test_the_bodies_end_in_the_published_sizes(name: str) -> None:
    units = MODELS[name].units
    shapes = trace(units, (2, 3, 224, 224))
    first = next(i for i, unit in enumerate(units) if unit.stage == "head")
    assert shapes[first].input == (2, *BODY[name])
    assert shapes[-1].output == (2, 1000)


def test_inception_takes_299_down_to_8() -> None:
    """The grids of the paper's table 1."""
    units = MODELS["inception_v3"].units
    sides = {
        unit.name: shapes.output[2]
        for unit, shapes in zip(units, trace(units, (1, 3, 299, 299)), strict=True)
        if len(shapes.output) == 4
    }
    named = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "maxpool1", "Conv2d_4a_3x3", "Mixed_5b", "Mixed_6a",
             "Mixed_7a")  # fmt: skip
    assert [sides[name] for name in named] == [149, 147, 73, 71, 35, 17, 8]


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
def test_pooling_counts_windows_like_pytorch(padding: int, ceil: bool) -> None:
    for size in range(3, 30):
        for kernel, stride in ((2, 2), (3, 2), (3, 3), (2, 3)):
            unit = maxpool("pool", "body", kernel, stride, padding, ceil)
            x = torch.zeros(1, 1, size, size + 1)
            expected = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil).shape
            assert trace([unit], (1, 1, size, size + 1))[0].output == tuple(expected)


@pytest.mark.parametrize(
    ("shape", "unit"),
    [((1, 3, 27, 27), "features.5"), ((1, 4, 64, 64), "features.0"), ((1, 3), "features.0"),
     ((3,), "features.0")],
)  # fmt: skip
def test_what_does_not_fit_names_the_unit(shape: tuple[int, ...], unit: str) -> None:
    with pytest.raises(InputError, match=unit):
        trace(MODELS["alexnet"].units, shape)


@pytest.mark.parametrize(
    ("name", "height", "width", "instead"),
    [("dinov2_vits14", 224, 225, r"multiples of 14, got 224 × 225\. Take 224 × 224\."),
     ("dinov2_vits14", 13, 42, r"got 13 × 42\. Take 14 × 42\."),
     ("vit_b_32", 224, 200, r"multiples of 32, got 224 × 200\. Take 224 × 192\.")],
)  # fmt: skip
def test_patches_must_fill_the_image(name: str, height: int, width: int, instead: str) -> None:
    with pytest.raises(InputError, match=instead):
        trace(MODELS[name].units, (1, 3, height, width))
    trace(MODELS[name].units, (1, 3, 448, 224))
