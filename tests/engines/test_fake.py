"""The NumPy engine keeps the contract that it helps to test."""

from __future__ import annotations

import numpy as np
import pytest

from pyflux_transfer.engines.base import Network, Plan, Update
from pyflux_transfer.networks.head import Head
from tests.engines import fake
from tests.engines.conformance import Build, Conformance


class TestFake(Conformance):
    @pytest.fixture
    def build(self) -> Build:
        return fake.build

    def addresses(self, network: Network) -> dict[str, int]:
        assert isinstance(network, fake.FakeNetwork)
        return {name: value.ctypes.data for name, value in network.tensors.items()}


@pytest.mark.parametrize("freeze_bn", [False, True])
def test_gradients_are_those_of_finite_differences(freeze_bn: bool) -> None:
    """One plain step of gradient descent moves each number against the loss's slope."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((6, 3, 4, 4), dtype=np.float32)
    y = np.array([0, 1, 2, 0, 1, 2])
    weights = np.array([0.5, 2.0, 1.0], np.float32)
    update = Update("sgd", weight_decay=0, momentum=0, label_smoothing=0.1, freeze_bn=freeze_bn)

    def loss_and_state(state: fake.State | None, rate: float) -> tuple[float, fake.State]:
        network = fake.build(Plan(fake.TINY, Head(3, hidden=(5,), activation="tanh"), seed=0))
        network.prepare(update)
        if state:
            network.load_state(state)
        stages = dict.fromkeys(("stem", "stage1", "stage2", "head"), rate)
        return network.step(x, y, stages, weights), network.state()

    _, start = loss_and_state(None, 0.0)
    _, moved = loss_and_state(start, 1.0)
    for name, value in start.items():
        if ".running_" in name:
            continue
        slope = start[name] - moved[name]
        index = np.unravel_index(np.abs(slope).argmax(), value.shape)
        width = 3e-3
        sides = []
        for sign in (1, -1):
            there = {k: v.copy() for k, v in start.items()}
            there[name][index] += sign * width
            sides.append(loss_and_state(there, 0.0)[0])
        assert slope[index] == pytest.approx((sides[0] - sides[1]) / (2 * width), rel=0.05), name
