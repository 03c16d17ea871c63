"""Published files of transformers under today's names, and headless ones."""

from __future__ import annotations

import numpy as np
import pytest

from pyflux_transfer.errors import WeightsError
from pyflux_transfer.networks.families.vit import dinov2, vit
from pyflux_transfer.networks.start import start
from pyflux_transfer.networks.weights.fit import fitted

VIT = vit(8, 16, 2, 2, side=16)
DINO = dinov2(16, 2, 2, side=28)


def test_old_names_of_torchvisions_mlp_are_read() -> None:
    state = start(VIT, 0)
    old = {
        name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): value
        for name, value in state.items()
    }
    assert old.keys() != state.keys()
    found, headless = fitted(old, VIT)
    assert not headless
    assert found.keys() == state.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, state[name])


def test_old_names_are_put_right_in_no_other_network() -> None:
    state = {**start(DINO, 0), "blocks.0.mlp.linear_1.weight": np.zeros(1, np.float32)}
    with pytest.raises(WeightsError, match=r"blocks\.0\.mlp\.linear_1\.weight"):
        fitted(state, DINO)


def test_dinov2_comes_with_a_token_for_pretraining_and_without_a_head() -> None:
    state = start(DINO, 0)
    published = {n: v for n, v in state.items() if not n.startswith("linear_head.")}
    published["mask_token"] = np.zeros((1, 16), np.float32)
    found, headless = fitted(published, DINO, seed=3)
    assert headless
    assert found.keys() == state.keys()
    np.testing.assert_array_equal(found["cls_token"], state["cls_token"])
    np.testing.assert_array_equal(found["linear_head.weight"], start(DINO, 3)["linear_head.weight"])


def test_metas_linear_head_fits_beside_the_trunk() -> None:
    state = start(DINO, 0)
    assert state["linear_head.weight"].shape == (1000, 2 * 16)
    found, headless = fitted(state, DINO)
    assert found is state
    assert not headless
