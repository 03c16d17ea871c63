"""Every architecture without a definition of our own against what its publishers' code computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.torch.kinds import TrainRunner, forward
from pyflux_transfer.engines.torch.network import build
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.units import tensors
from tests.engines.recorded import LARGEST, names, recorded
from tests.engines.reference import REFERENCES
from tests.engines.seeded import noise, seeded

torch.set_num_threads(1)  # see test_network.py

BIG = 40_000_000  # parameters above which a row is slow
ROWS = [
    pytest.param(name, marks=[pytest.mark.slow] if MODELS[name].parameters > BIG else [])
    for name in names()
    if name in MODELS
]


def test_every_row_without_a_definition_is_recorded() -> None:
    rows = {name for name, row in MODELS.items() if row.parameters <= LARGEST}
    assert set(names()) == rows - set(REFERENCES)


@pytest.mark.parametrize("name", ROWS)
def test_logits_equal_the_recorded_ones(name: str) -> None:
    network = build(Plan(MODELS[name], seed=None, precision="fp32"))
    network.load_state(seeded(name, tensors(network.units)))
    for side, largest, expected in recorded(name):
        x = noise(2, 3, side, side)
        found = network.logits(network.embed(x))[:, : expected.shape[1]]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * largest)
        with torch.inference_mode():  # the steps that training runs
            plain = forward(TrainRunner(network.tensors), network._blocks, torch.from_numpy(x))
        plain = plain[:, : expected.shape[1]].numpy()
        np.testing.assert_allclose(plain, expected, rtol=0, atol=1e-5 * largest)
