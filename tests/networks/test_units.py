"""What a unit says about its tensors, and cuts by name."""

from __future__ import annotations

import pytest

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.blocks import avgpool, basic, bottleneck, conv, fire, inverted
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.units import resolve_cut, stages, tensors


def test_a_convolution_with_norm_names_both_layers() -> None:
    unit = conv("conv1", "stem", 3, 64, 7, norm="bn1", stride=2, padding=3)
    assert unit.tensors == {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.weight": (64,),
        "bn1.bias": (64,),
        "bn1.running_mean": (64,),
        "bn1.running_var": (64,),
    }
    assert unit.parameters == 64 * 3 * 49 + 2 * 64
    assert unit.statistics == 2 * 64


@pytest.mark.parametrize(
    ("inputs", "stride", "shortcut"), [(64, 1, False), (64, 2, True), (32, 1, True)]
)
def test_a_block_has_a_shortcut_where_shapes_change(
    inputs: int, stride: int, shortcut: bool
) -> None:
    names = set(basic("layer1.0", "stage1", inputs, 64, stride).tensors)
    assert ("layer1.0.downsample.0.weight" in names) == shortcut
    assert "layer1.0.bn2.running_var" in names


def test_a_bottlenecks_groups_share_the_middle() -> None:
    unit = bottleneck("b", "s", 256, 128, 256, 1, groups=32)
    assert unit.tensors["b.conv2.weight"] == (128, 4, 3, 3)


def test_an_inverted_block_without_expansion_has_two_steps() -> None:
    leaves = (("conv.0.0", "conv.0.1"), ("conv.1", "conv.2"))
    make = {"kernel": 3, "stride": 1, "expand": 1, "same": False, "eps": 1e-5}
    unit = inverted("f", "block1", 32, 16, leaves=leaves, **make)  # type: ignore[arg-type]
    weights = [name for name, shape in unit.tensors.items() if len(shape) == 4]
    assert weights == ["f.conv.0.0.weight", "f.conv.1.weight"]
    assert unit.tensors["f.conv.0.0.weight"] == (32, 1, 3, 3)
    assert unit.options["residual"] is False


def test_a_fire_unit_has_biases_and_no_statistics() -> None:
    unit = fire("f", "block2", 64, 16, 64)
    assert unit.statistics == 0
    assert unit.parameters == 64 * 16 + 16 + 16 * 64 + 64 + 16 * 64 * 9 + 64


def test_tensors_and_stages_keep_the_order() -> None:
    units = (conv("a", "one", 3, 4, 1), avgpool(1, "two"), conv("b", "three", 4, 5, 1, bias=True))
    assert list(tensors(units)) == ["a.weight", "b.weight", "b.bias"]
    assert stages(units) == ("one", "two", "three")


@pytest.mark.parametrize(
    ("name", "cut", "unit"),
    [("resnet18", "head", "fc"), ("resnet18", "stage4", "layer4.0"), ("resnet18", "stem", "conv1"),
     ("vgg16", "head", "classifier.0"), ("efficientnet_lite0", "block8", "features.8")],
)  # fmt: skip
def test_a_stage_cuts_at_its_first_unit_that_can_learn(name: str, cut: str, unit: str) -> None:
    units = MODELS[name].units
    assert units[resolve_cut(units, cut)].name == unit


def test_a_cut_by_number_must_lie_inside() -> None:
    units = MODELS["resnet18"].units
    assert resolve_cut(units, 0) == 0
    for cut in (-1, len(units)):
        with pytest.raises(InputError, match=str(cut)):
            resolve_cut(units, cut)
    with pytest.raises(InputError, match="Did you mean 'stage4'"):
        resolve_cut(units, "stag4")
