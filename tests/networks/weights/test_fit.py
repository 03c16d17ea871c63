"""How weights fit a network with another head."""

from __future__ import annotations

import numpy as np
import pytest

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.errors import WeightsError
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.start import start
from pyflux_transfer.networks.tensors import State
from pyflux_transfer.networks.weights.fit import fitted, unwrapped
from tests.engines.fake import TINY


@pytest.fixture
def state() -> State:
    return start(TINY.units, 0)


def for_plan(state: State, plan: Plan) -> State:
    return fitted(state, plan.units, plan.seed or 0)[0]


def test_the_whole_network_must_fit_exactly(state: State) -> None:
    found, headless = fitted(state, TINY.units)
    assert found is state
    assert not headless
    state["more.weight"] = np.zeros(1, np.float32)
    with pytest.raises(WeightsError, match=r"more\.weight"):
        fitted(state, TINY.units)


@pytest.mark.parametrize("hidden", [(), (7,)])
def test_another_head_begins_at_random(state: State, hidden: tuple[int, ...]) -> None:
    plan = Plan(TINY, Head(4, hidden=hidden), seed=5)
    found, headless = fitted(state, plan.units, 5)
    random = start(plan.units, 5)
    assert headless
    assert set(found) == set(random)
    for name, value in found.items():
        source = state if name.startswith(("conv", "bn")) else random
        np.testing.assert_array_equal(value, source[name])


def test_weights_without_a_head_give_what_comes_before_it(state: State) -> None:
    body = {name: value for name, value in state.items() if not name.startswith("classifier")}
    found, headless = fitted(body, TINY.units)
    assert headless
    assert set(found) == set(state)
    np.testing.assert_array_equal(found["conv3.bias"], state["conv3.bias"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_prefixes_of_wrappers_are_left_out(state: State, prefix: str) -> None:
    wrapped = {prefix + name: value for name, value in state.items()}
    assert list(unwrapped(wrapped)) == list(state)


def test_a_prefix_that_not_all_share_stays(state: State) -> None:
    mixed = {**state, "module.weight": np.zeros(1, np.float32)}
    assert unwrapped(mixed) == mixed
    assert unwrapped({}) == {}


def test_a_state_of_the_same_head_is_taken_whole() -> None:
    plan = Plan(TINY, Head(4))
    state = start(plan.units, 9)
    assert for_plan(state, plan) is state


def test_a_state_with_a_head_of_other_classes_gives_its_body() -> None:
    given = start(Plan(TINY, Head(4)).units, 9)
    found = for_plan(given, Plan(TINY, Head(6)))
    assert found["classifier.weight"].shape == (6, 16)
    np.testing.assert_array_equal(found["conv3.bias"], given["conv3.bias"])


def test_weights_of_another_architecture_name_the_leaf(state: State) -> None:
    with pytest.raises(WeightsError, match=r"first is 'layer1\.0\.conv1\.weight'"):
        for_plan(state, Plan(MODELS["resnet18"], Head(2)))
    wrong = {**state, "conv2.weight": np.zeros((1, 1, 1, 1), np.float32)}
    with pytest.raises(WeightsError, match=r"'conv2\.weight' must have shape \(12, 8, 1, 1\)"):
        for_plan(wrong, Plan(TINY, Head(2)))
    more = {**state, "layer1.0.conv1.weight": wrong["conv2.weight"]}
    with pytest.raises(WeightsError, match=r"too many, the first is 'layer1\.0\.conv1\.weight'"):
        for_plan(more, Plan(TINY, Head(2)))
