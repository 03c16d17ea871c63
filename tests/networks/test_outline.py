"""Rows against what torchvision publishes and what torchinfo 1.8 says of the same networks."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks import tree
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.outline import Row, outline
from pyflux_transfer.networks.shapes import trace
from pyflux_transfer.networks.units import Unit
from pyflux_transfer.networks.wiring import layer_shapes

# billions of multiply-adds for an image of 224 × 224: the GFLOPS in torchvision's docs
GIGAS = {
    "resnet18": 1.81, "resnet34": 3.66, "resnet50": 4.09, "resnet101": 7.80, "resnet152": 11.51,
    "resnext50_32x4d": 4.23, "resnext101_32x8d": 16.41, "wide_resnet50_2": 11.40, "alexnet": 0.71,
    "vgg11": 7.61, "vgg16": 15.47, "vgg19_bn": 19.63, "mobilenet_v2": 0.30, "squeezenet1_1": 0.35,
}  # fmt: skip


def rows_of(name: str, cut: int = 0, batch: int = 1, depth: int = 3) -> list[Row]:
    return outline(name, MODELS[name].units, cut, (batch, 3, 224, 224), depth)


def bees(cut: int, batch: int = 32) -> dict[tuple[int, str], Row]:
    """Return the rows of a ResNet-18 with 23 classes."""
    units = Plan(MODELS["resnet18"], Head(23)).units
    rows = outline("resnet18", units, cut, (batch, 3, 224, 224))
    return {(row.level, row.name): row for row in rows}


@pytest.mark.parametrize("name", GIGAS)
def test_the_work_is_what_is_published(name: str) -> None:
    work = rows_of(name, batch=2)[0].mult_adds
    assert work is not None
    assert work / 2e9 == pytest.approx(GIGAS[name], abs=0.02)


def test_the_layers_of_a_tree_have_their_shapes() -> None:
    """A gate beside a shortcut, and branches of two strides."""
    body = (
        tree.multiply(
            tree.IDENTITY,
            tree.chain(tree.mean(), tree.conv("squeeze", 8, 4, 1), tree.act("relu"),
                       tree.conv("excite", 4, 8, 1)),
        ),
        tree.concat(
            tree.chain(tree.conv("left", 8, 6, 3, stride=2, padding=1), tree.norm("bn", 6)),
            tree.chain(tree.maxpool(3, 2, 1), tree.conv("right", 8, 2, 1)),
        ),
        tree.dense("last", 8, 5),
    )  # fmt: skip
    unit = tree.block("block", "stage1", 8, 5, *body)
    (outside,) = trace([unit], (2, 8, 16, 16))
    found = {
        layer.name: (shapes.input[1:], shapes.output[1:])
        for layer, shapes in zip(unit.layers, layer_shapes(unit, outside), strict=True)
        if shapes
    }
    assert found == {
        "squeeze": ((8, 1, 1), (4, 1, 1)), "excite": ((4, 1, 1), (8, 1, 1)),
        "left": ((8, 16, 16), (6, 8, 8)), "bn": ((6, 8, 8), (6, 8, 8)),
        "right": ((8, 8, 8), (2, 8, 8)), "last": ((8, 8, 8), (5, 8, 8)),
    }  # fmt: skip
    row = outline("block", [unit], 0, (2, 8, 16, 16))[0]
    assert row.mult_adds == 2 * (8 * 4 * 2 + 64 * (8 * 9 * 6 + 8 * 2 + 8 * 5))


def test_the_rows_of_a_resnet18_are_those_of_torchinfo() -> None:
    rows = bees(cut=9)
    whole = rows[0, "resnet18"]
    assert (whole.parameters, whole.trained) == (11_188_311, 4_732_439)
    assert whole.mult_adds is not None
    assert round(whole.mult_adds / 1e9, 2) == 58.03
    assert whole.output_bytes is not None
    assert 2 * whole.output_bytes / 1e6 == pytest.approx(1271.67, abs=0.01)  # it counts gradients
    conv = rows[3, "layer2.0.conv1"]
    assert (conv.input, conv.output) == ((32, 64, 56, 56), (32, 128, 28, 28))
    shortcut = rows[3, "layer2.0.downsample.0"]
    assert (shortcut.input, shortcut.output) == ((32, 64, 56, 56), (32, 128, 28, 28))
    assert rows[3, "layer2.0.bn1"].input == (32, 128, 28, 28)
    assert rows[3, "layer2.0.conv2"].input == (32, 128, 28, 28)


def test_what_is_trained_is_told_of_every_row_with_parameters() -> None:
    told = {key: row.trainable for key, row in bees(cut=9).items()}
    assert told[0, "resnet18"] == told[1, "stage4"] == "Partial"
    assert told[2, "layer4.0"] == told[3, "layer4.0.bn2"] == told[1, "stem"] == "False"
    assert told[2, "layer4.1"] == told[3, "layer4.1.conv1"] == told[2, "fc"] == "True"
    assert [key for key, answer in told.items() if not answer] == [
        (2, "maxpool"), (2, "avgpool"), (2, "flatten"),
    ]  # fmt: skip
    assert set(bees(cut=0)[1, "stage1"].trainable.split()) == {"True"}


@pytest.mark.parametrize("name", MODELS)
def test_levels_add_up(name: str) -> None:
    levels: dict[int, list[Row]] = {0: [], 1: [], 2: []}
    for row in rows_of(name):
        levels.setdefault(row.level, []).append(row)
    (whole,) = levels[0]
    assert whole.parameters == MODELS[name].parameters
    assert whole.statistics == MODELS[name].statistics
    for level in (1, 2):
        assert sum(row.parameters for row in levels[level]) == whole.parameters
        assert sum(row.trained for row in levels[level]) == whole.trained
    assert [row.index for row in levels[2]] == list(range(len(MODELS[name].units)))


@pytest.mark.parametrize(
    ("name", "side"), [*((name, 224) for name in MODELS), *((name, 197) for name in GIGAS)]
)
def test_the_last_layers_of_a_unit_give_what_it_gives(name: str, side: int) -> None:
    units = MODELS[name].units
    for unit, outside in zip(units, trace(units, (2, 3, side, side)), strict=True):
        known = [shapes for shapes in layer_shapes(unit, outside) if shapes]
        if not known or unit.kind == "block":  # a tree's last layer may be a gate
            continue
        assert known[0].input == outside.input
        assert known[-1].output[2:] == outside.output[2:]
        assert known[-1].output[1] * (2 if unit.kind == "fire" else 1) == outside.output[1]


def test_depth_says_how_far_down() -> None:
    for depth in range(4):
        assert {row.level for row in rows_of("resnet18", depth=depth)} == set(range(depth + 1))
    with pytest.raises(InputError, match="depth must be from 0 to 3, got 4"):
        rows_of("resnet18", depth=4)


def test_a_unit_that_is_one_layer_is_one_row() -> None:
    assert [row.level for row in rows_of("alexnet") if row.name == "features.0"] == [2]
    levels = [row.level for row in rows_of("vgg11_bn") if row.name == "features.0"]
    assert levels == [2, 3]  # the unit is a convolution and its norm


def test_what_is_not_known_is_left_open() -> None:
    unit = next(unit for unit in MODELS["resnet18"].units if unit.kind == "basic")
    (shapes,) = trace([unit], (1, 64, 8, 8))
    strange = replace(unit, kind="strange")
    assert layer_shapes(strange, shapes) == [None] * len(unit.layers)
    assert prod(shapes.output) > 0


def test_a_row_is_plain_data() -> None:
    row = bees(cut=9)[2, "fc"].to_json()
    assert row["level"] == "unit"
    assert row["trainable"] == "True"
    assert row["weight"] == (23, 512)
    assert bees(cut=9)[2, "avgpool"].to_json()["trainable"] is None


def test_the_units_of_a_row_keep_their_own_numbers() -> None:
    units: tuple[Unit, ...] = MODELS["resnet18"].units
    rows = outline("resnet18", units, 0, (1, 3, 64, 64))
    inside = [row for row in rows if row.level == 3 and row.name.startswith("layer1.1.")]
    assert {row.index for row in inside} == {3}
