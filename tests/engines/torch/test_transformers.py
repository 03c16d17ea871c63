"""Small networks with attention, and ConvNeXt: what every engine must do, and their positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

import pyflux_transfer as pft
from pyflux_transfer.engines.base import Network, Plan
from pyflux_transfer.engines.torch.convolution import has_bf16
from pyflux_transfer.engines.torch.network import build
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.catalog import MODELS, Architecture
from pyflux_transfer.networks.families.convnext import convnext
from pyflux_transfer.networks.families.vit import dinov2, vit
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.positions import resampling
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import Unit
from tests import photos
from tests.engines.conformance import train
from tests.engines.torch.test_network import TorchConformance, noise

torch.set_num_threads(1)  # see test_network.py


def small(name: str, make: Callable[[], tuple[Unit, ...]]) -> Architecture:
    count = sum(unit.parameters for unit in make())
    return Architecture(name, make, count, None)


CONVNEXT = small("convnext_small", lambda: convnext((1, 1, 2, 1), (8, 12, 16, 24)))
VIT = small("vit_small", lambda: vit(8, 32, 4, 4, side=24))
DINOV2 = small("dinov2_small", lambda: dinov2(32, 4, 4, side=42))


class TestConvNeXt(TorchConformance):
    side = 64

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(CONVNEXT, Head(3, hidden=(10,), dropout=0.25), seed=3)


class TestViT(TorchConformance):
    """Images of the very size that the positions were learnt for."""

    side = 24

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(VIT, Head(3, hidden=(10,), dropout=0.25), seed=3)


class TestDINOv2(TorchConformance):
    """Images of another size: the positions are interpolated, in training, too."""

    side = 28

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(DINOV2, Head(3, hidden=(10,), dropout=0.25), seed=3)


class TestHalf(TorchConformance):
    side = 28
    step_to_evaluation = 0.02
    difference = 0.03  # a shorter one is lost in the rounding of bfloat16

    @pytest.fixture
    def plan(self) -> Plan:
        if not has_bf16(torch.device("cpu")):
            pytest.skip("this processor has no bfloat16")
        return Plan(DINOV2, Head(3, hidden=(10,), dropout=0.25), seed=3, precision="bf16")


@pytest.mark.parametrize("architecture", [CONVNEXT, VIT, DINOV2], ids=lambda row: row.name)
def test_each_stage_can_be_cut_and_trained(architecture: Architecture) -> None:
    images, labels = noise(4, 3, 56, 56), np.array([0, 1, 2, 0])
    for stage in architecture.stages:
        network = build(Plan(architecture, Head(3), seed=1))
        network.cut_at(next(i for i, u in enumerate(network.units) if u.stage == stage))
        features = network.embed(images)
        losses = train(network, features, labels, 10)
        assert losses[-1] < losses[0], stage


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_sides_that_patches_do_not_fill_are_refused(name: str) -> None:
    row, patch = (VIT, 8) if name == "vit" else (DINOV2, 14)
    network: Network = build(Plan(row, Head(3), seed=1))
    with pytest.raises(InputError, match=rf"multiples of {patch}, got 57 × 56\. Take 56 × 56"):
        network.apply(noise(1, 3, 57, 56), 0, 1)


# --- positions ----------------------------------------------------------------------------------


def resampled(grid: Array, high: int, wide: int, *, offset: float, aligned: bool) -> Array:
    side = grid.shape[-1]
    rows, columns = (resampling(side, n, offset=offset, aligned=aligned) for n in (high, wide))
    return np.einsum("hr,wc,rc->hw", rows, columns, grid[0, 0])


@pytest.mark.parametrize(("high", "wide"), [(16, 16), (16, 28), (37, 36), (20, 74), (37, 20)])
def test_positions_are_interpolated_as_meta_does(high: int, wide: int) -> None:
    """dinov2/models/vision_transformer.py: bicubic by factors with 0.1 added to the counts."""
    grid = noise(1, 1, 37, 37)
    factors = ((high + 0.1) / 37, (wide + 0.1) / 37)
    theirs = F.interpolate(torch.from_numpy(grid), scale_factor=factors, mode="bicubic")
    ours = resampled(grid, high, wide, offset=0.1, aligned=False)
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize(("high", "wide"), [(24, 24), (7, 14), (10, 3), (1, 14)])
def test_positions_are_interpolated_as_torchvision_does(high: int, wide: int) -> None:
    grid = noise(1, 1, 14, 14)
    theirs = F.interpolate(
        torch.from_numpy(grid), size=(high, wide), mode="bicubic", align_corners=True
    )
    ours = resampled(grid, high, wide, offset=0.0, aligned=True)
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-5)


def test_features_of_dinov2_are_the_class_token_and_the_patches_mean() -> None:
    network = build(Plan(DINOV2, None, seed=1))
    images, end = noise(2, 3, 28, 42), len(network.units) - 2
    tokens = network.apply(images, 0, end)
    assert tokens.shape == (2, 1 + 2 * 3, 32)
    normed = F.layer_norm(torch.from_numpy(tokens), (32,), eps=1e-6).numpy()
    expected = np.concatenate((normed[:, 0], normed[:, 1:].mean(1)), 1)
    np.testing.assert_allclose(network.apply(tokens, end, end + 1), expected, atol=1e-5)


@pytest.mark.parametrize("architecture", [CONVNEXT, VIT, DINOV2], ids=lambda row: row.name)
def test_each_is_trained_saved_and_summarised_like_any_network(
    architecture: Architecture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(MODELS, architecture.name, architecture)
    folder = photos.write(tmp_path / "photos", {"blue": 4, "red": 4})
    net = pft.load(architecture.name, weights=None, engine="torch", precision="fp32")
    model = net.with_head(["blue", "red"])
    model.fit(folder, quality="head")  # from kept features
    model.fit(folder, cut="stage4", epochs=1, valid=None)
    path = model.save(tmp_path / "model.safetensors")
    again = pft.load(path, engine="torch", precision="fp32")
    assert model.predict(folder) == again.predict(folder)
    model.summary()
    assert architecture.units[-2].name in capsys.readouterr().out
