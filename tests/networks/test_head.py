"""Heads: what they keep, what they add, and how the new layers are named."""

from __future__ import annotations

from typing import Any

import pytest

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head, with_head
from pyflux_transfer.networks.units import tensors


def layers(name: str, head: Head) -> list[tuple[str, str]]:
    """Name and kind of the units of the head."""
    units = with_head(MODELS[name].units, head)
    return [(unit.name, unit.kind) for unit in units if unit.stage == "head"]


@pytest.mark.parametrize(
    ("name", "leaf", "width"),
    [("resnet18", "fc", 512), ("resnet50", "fc", 2048), ("vgg16_bn", "classifier", 512),
     ("alexnet", "classifier", 256), ("mobilenet_v2", "classifier", 1280),
     ("squeezenet1_1", "classifier", 512), ("efficientnet_lite0", "classifier", 1280),
     ("efficientnet_b2", "classifier", 1408), ("mobilenet_v3_large", "classifier", 960),
     ("densenet161", "classifier", 2208), ("googlenet", "fc", 1024), ("inception_v3", "fc", 2048)],
)  # fmt: skip
def test_a_plain_head_is_one_dense_on_the_pooled_channels(name: str, leaf: str, width: int) -> None:
    head = Head(5)
    assert layers(name, head) == [("avgpool", "avgpool"), ("flatten", "flatten"), (leaf, "dense")]
    found = tensors(with_head(MODELS[name].units, head))
    assert found[f"{leaf}.weight"] == (5, width)
    assert found[f"{leaf}.bias"] == (5,)


@pytest.mark.parametrize(
    ("name", "leaf", "width"),
    [("vit_b_16", "heads", 768), ("dinov2_vits14", "linear_head", 768),
     ("convnext_tiny", "classifier.2", 768)],
)  # fmt: skip
def test_a_body_that_gives_vectors_has_no_pooling_behind_it(
    name: str, leaf: str, width: int
) -> None:
    assert layers(name, Head(5)) == [(leaf, "dense")]
    assert tensors(with_head(MODELS[name].units, Head(5)))[f"{leaf}.weight"] == (5, width)


def test_no_layer_of_a_head_is_called_as_one_of_the_body() -> None:
    """ConvNeXt's `classifier.0` is a LayerNorm that a new head keeps."""
    for hidden in ((), (8,), (8, 4)):
        units = with_head(MODELS["convnext_tiny"].units, Head(2, hidden=hidden, dropout=0.5))
        names = [name for unit in units for name in unit.tensors]
        assert len(set(names)) == len(names)
        assert "classifier.0.weight" in names


def test_hidden_layers_are_numbered_as_in_a_sequential() -> None:
    head = Head(2, hidden=(256, 64), dropout=0.2, activation="gelu")
    units = with_head(MODELS["resnet50"].units, head)
    assert layers("resnet50", head)[2:] == [
        ("fc.0", "dense"), ("fc.2", "dropout"), ("fc.3", "dense"), ("fc.5", "dropout"),
        ("fc.6", "dense"),
    ]  # fmt: skip
    by_name = {unit.name: unit for unit in units}
    assert by_name["fc.0"].options["activation"] == "gelu"
    assert by_name["fc.6"].options["activation"] == "none"
    assert by_name["fc.2"].options["p"] == 0.2
    assert tensors(units)["fc.6.weight"] == (2, 64)


def test_dropout_without_hidden_layers_stands_before_the_dense() -> None:
    found = layers("resnet18", Head(2, dropout=0.5))
    assert found[2:] == [("fc.dropout", "dropout"), ("fc", "dense")]


@pytest.mark.parametrize(
    ("name", "last", "width"),
    [("vgg11", "classifier.6", 4096), ("alexnet", "classifier.6", 4096),
     ("mobilenet_v3_small", "classifier.3", 1024)],
)  # fmt: skip
def test_keep_hidden_replaces_the_last_dense_only(name: str, last: str, width: int) -> None:
    full, units = MODELS[name].units, with_head(MODELS[name].units, Head(3, keep="hidden"))
    assert units[:-1] == full[:-1]
    assert tensors(units[-1:]) == {f"{last}.weight": (3, width), f"{last}.bias": (3,)}


@pytest.mark.parametrize("name", MODELS)
def test_keep_classifier_adds_a_dense_behind_the_thousand_classes(name: str) -> None:
    full, units = MODELS[name].units, with_head(MODELS[name].units, Head(3, keep="classifier"))
    assert units[:-1] == full
    assert tensors(units[-1:]) == {"head.weight": (3, 1000), "head.bias": (3,)}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121"])
def test_keep_hidden_needs_hidden_layers(name: str) -> None:
    with pytest.raises(InputError, match=r"Use hidden=\(256,\)"):
        with_head(MODELS[name].units, Head(3, keep="hidden"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "at least 2 classes, got 1"),
        ({"classes": 2, "hidden": (0,)}, "positive"),
        ({"classes": 2, "dropout": 1.0}, r"\[0, 1\), got 1.0"),
        ({"classes": 2, "activation": "swish"}, "Choose from: relu, gelu, tanh"),
        ({"classes": 2, "keep": "all"}, "'all'"),
        ({"classes": 2, "keep": "hidden", "hidden": (4,)}, "cannot be added"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Head(**options)
