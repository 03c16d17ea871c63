"""The catalog against what is published about each network."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.catalog import MODELS, architecture, imagenet_classes
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.units import stages

# Trainable numbers as torchvision documents them (lite0: TensorFlow's page), and BatchNorm
# statistics as Keras counts them ("non-trainable"), or two for each channel of the definition.
COUNTS = {
    "resnet18": (11_689_512, 9_600),
    "resnet34": (21_797_672, 17_024),
    "resnet50": (25_557_032, 53_120),
    "resnet101": (44_549_160, 105_344),
    "resnet152": (60_192_808, 151_424),
    "wide_resnet50_2": (68_883_240, 68_224),
    "wide_resnet101_2": (126_886_696, 137_856),
    "resnext50_32x4d": (25_028_904, 68_224),
    "resnext101_32x8d": (88_791_336, 202_880),
    "resnext101_64x4d": (83_455_272, 202_880),
    "vgg11": (132_863_336, 0),
    "vgg13": (133_047_848, 0),
    "vgg16": (138_357_544, 0),
    "vgg19": (143_667_240, 0),
    "vgg11_bn": (132_868_840, 5_504),
    "vgg13_bn": (133_053_736, 5_888),
    "vgg16_bn": (138_365_992, 8_448),
    "vgg19_bn": (143_678_248, 11_008),
    "alexnet": (61_100_840, 0),
    "mobilenet_v2": (3_504_872, 34_112),
    "mobilenet_v3_small": (2_542_856, 12_112),
    "mobilenet_v3_large": (5_483_032, 24_400),
    "squeezenet1_0": (1_248_424, 0),
    "squeezenet1_1": (1_235_496, 0),
    "efficientnet_lite0": (4_652_008, 42_016),
    "efficientnet_b0": (5_288_548, 42_016),
    "efficientnet_b1": (7_794_184, 62_048),
    "efficientnet_b2": (9_109_994, 67_568),
    "efficientnet_b3": (12_233_232, 87_296),
    "efficientnet_b4": (19_341_616, 125_200),
    "efficientnet_v2_s": (21_458_488, 153_872),
    "densenet121": (7_978_856, 83_648),
    "densenet161": (28_681_000, 219_936),
    "densenet169": (14_149_480, 158_400),
    "densenet201": (20_013_928, 229_056),
    "googlenet": (6_624_904, 14_560),
    # 27,161,264 less the auxiliary classifier: 768 → 128 → 768 channels and 1000 classes
    "inception_v3": (
        27_161_264 - (768 * 128 + 2 * 128 + 128 * 768 * 25 + 2 * 768 + 769 * 1000),
        34_432,
    ),
    "convnext_tiny": (28_589_128, 0),
    "convnext_small": (50_223_688, 0),
    "convnext_base": (88_591_464, 0),
    "vit_b_16": (86_567_656, 0),
    "vit_b_32": (88_224_232, 0),
    "vit_l_16": (304_326_632, 0),
    "vit_l_32": (306_535_400, 0),
    "vit_b_16_384": (86_859_496, 0),
    "vit_l_16_512": (305_174_504, 0),
    # Of the checkpoints without the mask's token, and a linear head on 2 · 384 and 2 · 768.
    "dinov2_vits14": (22_056_192 + 769_000, 0),
    "dinov2_vitb14": (86_579_712 + 1_537_000, 0),
}


def test_every_row_has_its_counts() -> None:
    assert set(COUNTS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_counts_are_the_published_ones(name: str) -> None:
    row = MODELS[name]
    assert row.name == name
    assert (row.parameters, row.statistics) == COUNTS[name]
    assert sum(unit.parameters for unit in row.units) == row.parameters


@pytest.mark.parametrize("name", MODELS)
def test_units_follow_one_another(name: str) -> None:
    """Each unit takes as many channels as the one before it gives, and names are unique."""
    units = MODELS[name].units
    names = [tensor for unit in units for tensor in unit.tensors]
    assert len(set(names)) == len(names)
    assert len({unit.name for unit in units}) == len(units)
    width = 3
    for unit in units:
        if unit.kind == "flatten":
            width *= (7 if name.startswith("vgg") else 6 if name == "alexnet" else 1) ** 2
        assert unit.options.get("in", width) == width, unit.name
        width = 2 * int(unit.options["expand"]) if unit.kind == "fire" else int(
            unit.options.get("out", width)
        )  # fmt: skip
    assert width == 1000


@pytest.mark.parametrize("name", MODELS)
def test_stages_are_runs_that_end_in_the_head(name: str) -> None:
    row = MODELS[name]
    runs = [unit.stage for unit in row.units]
    assert stages(row.units) == row.stages
    assert row.stages[-1] == "head"
    changes = sum(one != other for one, other in pairwise(runs))
    assert changes == len(row.stages) - 1


@pytest.mark.parametrize("name", MODELS)
def test_weights_say_where_they_come_from(name: str) -> None:
    rows = MODELS[name].weights
    assert len({weights.tag for weights in rows}) == len(rows) >= 1
    for weights in rows:
        assert re.fullmatch(r"[0-9a-f]{8,64}", weights.sha256)
        assert weights.licence
        assert 50 < weights.accuracy < 100
        if weights.headless:
            assert weights.url.startswith("https://dl.fbaipublicfiles.com/dinov2/")
            assert len(weights.sha256) == 64
        elif weights.url:
            assert weights.url.startswith("https://download.pytorch.org/models/")
            assert weights.sha256 in weights.url
        else:
            assert weights.package


def test_the_default_weights_are_the_best_published_ones() -> None:
    for row in MODELS.values():
        assert row.tagged("imagenet") is row.weights[0]
        licence = row.weights[0].licence  # not one that forbids more for the sake of accuracy
        rivals = [weights for weights in row.weights if weights.licence == licence]
        assert row.weights[0].accuracy == max(weights.accuracy for weights in rivals)


def test_what_is_not_for_commerce_is_never_the_default_where_there_is_a_choice() -> None:
    bound = {
        f"{name}:{weights.tag}": row.weights[0] is weights
        for name, row in MODELS.items()
        for weights in row.weights
        if weights.licence == "CC-BY-NC-4.0"
    }
    assert bound == {
        "vit_b_16:imagenet1k_swag_linear_v1": False,
        "vit_l_16:imagenet1k_swag_linear_v1": False,
        "vit_b_16_384:imagenet1k_swag_e2e_v1": True,
        "vit_l_16_512:imagenet1k_swag_e2e_v1": True,
    }


def test_the_second_recipe_is_a_tag_with_its_own_preprocessing() -> None:
    row = MODELS["resnet50"]
    first, second = row.tagged("imagenet1k_v1"), row.tagged("imagenet1k_v2")
    assert (first.preprocessing.resize, second.preprocessing.resize) == (256, 232)
    assert (first.artifact, second.artifact) == (False, True)
    assert row.preprocessing == second.preprocessing
    with pytest.raises(InputError, match=r"weights tag of resnet50 .*Did you mean"):
        row.tagged("imagenet1k_v3")


def test_imagenets_classes_have_their_names() -> None:
    names = imagenet_classes()
    assert len(set(names)) == 1000
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")


def test_lite0_wants_values_of_0_to_255_less_127_by_128() -> None:
    """Its published preprocessing, in the scale of 0 to 1 that all rows use."""
    preprocessing = MODELS["efficientnet_lite0"].preprocessing
    for value in (0, 127, 255):
        scaled = (value / 255 - preprocessing.mean[0]) / preprocessing.std[0]
        assert scaled == pytest.approx((value - 127) / 128)


@pytest.mark.parametrize(("name", "resize", "crop"), [("googlenet", 256, 224),
                                                      ("inception_v3", 342, 299)])  # fmt: skip
def test_inceptions_weights_want_values_of_minus_1_to_1(name: str, resize: int, crop: int) -> None:
    """What torchvision's `transform_input` makes of its usual normalisation."""
    image = MODELS[name].preprocessing
    assert (image.resize, image.crop) == (resize, crop)
    usual = Preprocessing()
    for value in (0.0, 0.3, 1.0):
        for channel in range(3):
            mean, std = usual.mean[channel], usual.std[channel]
            again = (value - mean) / std * (std / 0.5) + (mean - 0.5) / 0.5
            assert (value - image.mean[channel]) / image.std[channel] == pytest.approx(again)


def test_the_tags_of_one_network_may_want_other_sizes_and_filters() -> None:
    images = {tag.tag: tag.preprocessing for tag in MODELS["efficientnet_b1"].weights}
    assert images["imagenet1k_v2"] == Preprocessing(255, 240)
    assert images["imagenet1k_v1"] == Preprocessing(256, 240, interpolation="bicubic")


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'resnet5'.*Did you mean 'resnet5\d'\?"):
        architecture("resnet5")


def test_preprocessing_round_trips_and_refuses_nonsense() -> None:
    given = Preprocessing(resize=300, crop=280, interpolation="bicubic", background=(0, 0, 0))
    assert Preprocessing.from_json(given.to_json()) == given
    with pytest.raises(InputError, match="at most resize, got 300 and 256"):
        Preprocessing(resize=256, crop=300)
    with pytest.raises(InputError, match="'nearest'"):
        Preprocessing(interpolation="nearest")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0", "inception_v3"])
def test_the_momentum_of_batchnorm_is_torchvisions(name: str) -> None:
    norms = [layer for u in MODELS[name].units for layer in u.layers if layer.op == "norm"]
    assert {norm.momentum for norm in norms} == {0.01 if "mobilenet_v3" in name else 0.1}
