"""Both engines train alike: same start, data, order and options, loss by loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer.engines.base import Plan, Update
from pyflux_transfer.engines.flux import network as flux
from pyflux_transfer.networks.catalog import architecture
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.units import resolve_cut, tensors
from tests.engines.test_parity import note
from tests.engines.torch_side import ask, noise, small, trajectory

pytestmark = pytest.mark.flux

STEPS = 20


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("cut", ["head", "stage4"])
def test_losses_agree_and_each_engine_reads_the_others_weights(
    cut: str, optimizer: str, tmp_path: Path
) -> None:
    theirs = ask("train", tmp_path / "t.npz", cut=cut, optimizer=optimizer, steps=STEPS)
    plan = Plan(architecture("resnet18"), Head(3), seed=5)
    network = flux.build(plan)
    losses = np.array(trajectory(network, cut, optimizer, STEPS))
    worst = float(np.abs(losses / theirs["losses"] - 1).max())
    note(f"trajectory {cut} {optimizer}", worst)
    assert worst < 1e-3
    assert losses[-4:].mean() < losses[:4].mean()

    images = noise(2, 3, 32, 32)
    file = tmp_path / "flux.npz"
    np.savez(file, **network.state())  # type: ignore[arg-type]
    told = ask(
        "predict", tmp_path / "p.npz", state=str(file), name="resnet18", classes=3,
        shape=[2, 3, 32, 32],
    )  # fmt: skip
    logits = network.logits(network.embed(images))
    np.testing.assert_allclose(logits, told["logits"], atol=1e-4)

    # And the other way round, with the optimizer's memory: Flux goes on where torch stopped.
    other = flux.build(plan)
    other.load_state({name: theirs[name] for name in tensors(other.units)})
    told = ask(
        "predict", tmp_path / "q.npz", state=str(tmp_path / "t.npz"), name="resnet18", classes=3,
        shape=[2, 3, 32, 32],
    )  # fmt: skip
    np.testing.assert_allclose(other.logits(other.embed(images)), told["logits"], atol=1e-4)
    other.cut_at(resolve_cut(other.units, cut))
    other.prepare(Update(optimizer=optimizer))
    memory = {n.removeprefix("memory/"): v for n, v in theirs.items() if n.startswith("memory/")}
    other.load_optimizer_state(memory)
    for name, value in other.optimizer_state().items():
        np.testing.assert_array_equal(value, memory[name], err_msg=name)


# family → the stage that training starts from, the images' side, the rate. The inceptions train
# their last stages: deeper, weights changed by 1e-7 change their losses by 1e-2 in 20 steps.
FAMILIES = {
    "efficientnet": ("block1", 64, 1e-3),
    "mobilenet_v3": ("block1", 64, 1e-3),
    "densenet": ("block1", 64, 1e-3),
    "googlenet": ("inception5", 72, 1e-3),
    "inception_v3": ("mixed7", 139, 1e-4),
    "convnext": ("stage1", 64, 1e-3),
    "vit": ("stem", 24, 1e-3),
    "dinov2": ("stem", 28, 1e-3),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_in_small_trains_alike(name: str, tmp_path: Path) -> None:
    cut, side, rate = FAMILIES[name]
    theirs = ask(
        "train_small", tmp_path / "t.npz", name=name, cut=cut, steps=STEPS, rate=rate, side=side
    )
    network = flux.build(Plan(small(name), Head(3), seed=5))
    losses = np.array(trajectory(network, cut, "adamw", STEPS, rate, side))
    worst = float(np.abs(losses / theirs["losses"] - 1).max())
    note(f"trajectory {name}", worst)
    assert worst < 1e-3
    assert losses[-4:].mean() < losses[:4].mean()
