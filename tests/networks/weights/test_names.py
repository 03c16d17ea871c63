"""Names of published files that are not those of the networks."""

from __future__ import annotations

import numpy as np
import pytest

from pyflux_transfer.errors import WeightsError
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head, with_head
from pyflux_transfer.networks.tensors import State, check_state
from pyflux_transfer.networks.units import tensors
from pyflux_transfer.networks.weights.fit import fitted
from pyflux_transfer.networks.weights.names import as_torchvision

ONE = np.zeros(1, np.float32)


def state_of(name: str) -> State:
    """Tensors of the right shapes that take no memory."""
    return {n: np.broadcast_to(ONE, s) for n, s in tensors(MODELS[name].units).items()}


def test_what_has_our_names_stays_as_it_is() -> None:
    state = state_of("resnet18")
    assert as_torchvision(state, MODELS["resnet18"].units) is state


def test_densenets_old_names_are_those_of_the_published_files() -> None:
    units = MODELS["densenet121"].units
    old = {
        name.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.").replace("conv2.", "conv.2."): value
        for name, value in state_of("densenet121").items()
    }  # fmt: skip
    assert "features.denseblock1.denselayer1.norm.1.running_mean" in old
    assert "features.denseblock4.denselayer16.conv.2.weight" in old
    check_state(as_torchvision(old, units), units)


@pytest.mark.parametrize(
    ("name", "more"),
    [("googlenet", ["aux1.conv.conv.weight", "aux1.fc2.bias", "aux2.conv.bn.running_var"]),
     ("inception_v3", ["AuxLogits.conv0.conv.weight", "AuxLogits.fc.weight"])],
)  # fmt: skip
def test_auxiliary_classifiers_are_left_out(name: str, more: list[str]) -> None:
    units = MODELS[name].units
    published = {**state_of(name), **dict.fromkeys(more, ONE)}
    check_state(as_torchvision(published, units), units)
    headed = with_head(units, Head(3))
    found, headless = fitted(published, headed)
    assert headless
    check_state(found, headed)


def test_elsewhere_they_are_strangers() -> None:
    units = MODELS["resnet18"].units
    with pytest.raises(WeightsError, match=r"aux1\.fc\.weight"):
        fitted({**state_of("resnet18"), "aux1.fc.weight": ONE}, units)
