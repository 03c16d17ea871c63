from __future__ import annotations

import numpy as np
import pytest

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.layers import Layers
from pyflux_transfer.networks.tensors import Array, State
from tests.engines import fake


class Holder:
    """A network that holds no tensors."""

    units = MODELS["resnet18"].units
    cut = 9

    def state(self, start: int = 0) -> State:
        raise AssertionError(f"shapes are known without the tensors from {start} on")


def test_a_layer_is_found_by_torchvisions_name() -> None:
    layers = Layers(Holder())
    layer = layers["layer4.0.conv1"]
    assert (layer.kind, layer.index, layer.shape) == ("conv", 8, (512, 256, 3, 3))
    assert layer.parameters == 512 * 256 * 9
    assert not layer.trained
    assert layers["fc"].trained
    assert "layer4.0.conv1" in repr(layer)
    assert "AssertionError" not in repr(layer)


def test_units_are_found_too_and_a_layer_of_the_same_name_goes_before() -> None:
    layers = Layers(Holder())
    assert (layers["layer1.0"].kind, layers["layer1.0"].shape) == ("basic", None)
    assert layers["layer1.0"].parameters == 73_984
    assert (layers["maxpool"].parameters, layers["maxpool"].trained) == (0, False)
    assert layers["conv1"].parameters == 9_408  # the unit has a norm besides


def test_they_are_a_mapping_in_order() -> None:
    layers = Layers(Holder())
    assert list(layers)[:4] == ["conv1", "bn1", "maxpool", "layer1.0"]
    assert len(layers) == len(list(layers)) == len(dict(layers))
    assert "bn1" in layers
    assert layers.get("nothing") is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("layer4.0.conv9", "Unknown layer 'layer4.0.conv9'. Did you mean 'layer4.0.conv"),
        ("layer2.0.downsample", "several layers. Name one: layer2.0.downsample.0, layer2.0.down"),
    ],
)
def test_names_that_mean_no_layer_are_told(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Layers(Holder())[name]


def test_tensors_are_copies() -> None:
    network = fake.build(Plan(fake.TINY, seed=2))
    layer = Layers(network)["bn2"]
    found = layer.tensors
    assert set(found) == {f"bn2.{x}" for x in ("weight", "bias", "running_mean", "running_var")}
    found["bn2.weight"] += 1
    same: Array = network.state()["bn2.weight"]
    np.testing.assert_array_equal(layer.tensors["bn2.weight"], same)
    assert not np.array_equal(found["bn2.weight"], same)
