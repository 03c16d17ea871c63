"""Both engines compute the same network: equal weights, images of odd sizes.

Each family has a network or two here; with PYFLUX_PARITY set to a file, all rows of the catalog are
compared and the differences are appended to it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.flux import network as flux
from pyflux_transfer.networks.catalog import MODELS, architecture
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.units import Unit, resolve_cut
from tests.engines.small import SMALL, TRANSFORMERS
from tests.engines.torch_side import GRADIENT_OF, ask, evaluate, noise, random_state, small

pytestmark = pytest.mark.flux

# Families whose every row has a plan of its own in Metalhead, and one of each kind of tree.
_FEW = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2",
    "wide_resnet101_2", "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
    "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "alexnet",
    "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "squeezenet1_0", "squeezenet1_1",
    "efficientnet_lite0", "efficientnet_b0", "efficientnet_v2_s", "densenet121", "googlenet",
    "inception_v3", "convnext_tiny", "vit_b_32", "dinov2_vits14",
)  # fmt: skip
NAMES = tuple(MODELS) if os.environ.get("PYFLUX_PARITY") else _FEW


def sizes(units: tuple[Unit, ...]) -> list[list[int]]:
    """Two odd sizes of images; networks that cut them into patches want multiples."""
    multiple = max(int(unit.options.get("multiple", 1)) for unit in units)
    return [
        [count, 3, *(round(side / multiple) * multiple for side in sides)]
        for count, sides in ((2, (225, 193)), (1, (130, 158)))
    ]


def note(name: str, value: float) -> None:
    """Append a measured difference to the file that PYFLUX_PARITY names."""
    if file := os.environ.get("PYFLUX_PARITY"):
        with Path(file).open("a", encoding="utf-8") as out:
            out.write(json.dumps({"what": name, "difference": value}) + "\n")


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_features_agree(name: str, tmp_path: Path) -> None:
    units = architecture(name).units
    stages = list(dict.fromkeys(unit.stage for unit in units))
    cuts = [resolve_cut(units, stages[len(stages) // 2]), resolve_cut(units, "head")]
    shapes = sizes(units)
    expected = ask("parity", tmp_path / "torch.npz", name=name, shapes=shapes, cuts=cuts)
    network = flux.build(Plan(architecture(name), seed=None))
    network.load_state(random_state(network.units))
    found = evaluate(network, shapes, cuts)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert value.shape == expected[key].shape
        assert 0.01 < np.abs(value).max() < 100, "the comparison would say nothing"
        difference = float(np.abs(value - expected[key]).max())
        note(f"{name} {key}", difference)
        assert difference < 1e-4, key


@pytest.mark.parametrize("name", [*SMALL, *TRANSFORMERS])
def test_gradients_agree(name: str, tmp_path: Path) -> None:
    expected = ask("gradients", tmp_path / "torch.npz", name=name)
    network = flux.build(Plan(small(name), Head(3), seed=5))
    for index, unit in enumerate(network.units):
        right = expected[f"gradient {index}"]
        found = network.logit_gradient(expected[f"input {index}"], GRADIENT_OF, index)
        worst = float(np.abs(found - right).max() / np.abs(right).max())
        note(f"gradient {name} {index}", worst)
        assert worst < 1e-4, unit.name


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "mobilenet_v2", "squeezenet1_1"])
def test_a_state_from_flux_loads_by_name_into_the_published_network(
    name: str, tmp_path: Path
) -> None:
    network = flux.build(Plan(architecture(name), seed=None))
    network.load_state(random_state(network.units))
    file = tmp_path / "state.npz"
    np.savez(file, **network.state())  # type: ignore[arg-type]
    shape = [2, 3, 97, 65]
    expected = ask("published", tmp_path / "out.npz", state=str(file), name=name, shape=shape)
    logits = network.logits(network.embed(noise(*shape)))
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)


@pytest.mark.parametrize(
    "head",
    [
        Head(3, hidden=(16,), dropout=0.5, activation="gelu"),
        Head(3, hidden=(16, 8), activation="tanh"),
        Head(3, dropout=0.2),
        Head(3, keep="classifier"),
    ],
    ids=str,
)
def test_heads_agree(head: Head, tmp_path: Path) -> None:
    network = flux.build(Plan(architecture("squeezenet1_1"), head, seed=4))
    expected = ask(
        "headed", tmp_path / "out.npz", name="squeezenet1_1", head=asdict(head), seed=4,
        shape=[2, 3, 65, 97],
    )  # fmt: skip
    logits = network.logits(network.embed(noise(2, 3, 65, 97)))
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
