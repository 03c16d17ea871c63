"""Training in bfloat16: its steps equal the plain ones, in float32 closely, rounded nearly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.engines.base import Plan, Precision, Update
from pyflux_transfer.engines.torch.convolution import has_bf16
from pyflux_transfer.engines.torch.kinds import TrainRunner, forward, parameters
from pyflux_transfer.engines.torch.network import TorchNetwork, build
from pyflux_transfer.engines.torch.steps import ACTIVATIONS, Step
from pyflux_transfer.engines.torch.tail import TailRunner
from pyflux_transfer.engines.torch.trained import Window, convolved, folded, rounded
from pyflux_transfer.networks.catalog import MODELS, Architecture
from pyflux_transfer.networks.head import Head
from tests.engines.conformance import rates
from tests.engines.seeded import noise, seeded
from tests.engines.small import SMALL, TRANSFORMERS

torch.set_num_threads(1)

NETWORKS = {
    **SMALL,
    **TRANSFORMERS,
    **{name: MODELS[name] for name in ("resnet18", "squeezenet1_1", "efficientnet_lite0")},
}


@pytest.fixture
def _half() -> None:
    if not has_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bfloat16")


def network_of(architecture: Architecture, precision: Precision = "fp32") -> TorchNetwork:
    """A network with weights unlike a fresh start."""
    plan = Plan(architecture, Head(3, hidden=(10,), dropout=0.25), seed=3, precision=precision)
    network = build(plan)
    shapes = {name: value.shape for name, value in network.state().items()}
    network.load_state(seeded(architecture.name, shapes))
    return network


def images_of(architecture: Architecture, count: int = 4) -> np.ndarray:
    side = min(architecture.preprocessing.crop, 80)
    return noise(count, 3, side, side)


def gradients(network: TorchNetwork, runner: TrainRunner, x: np.ndarray) -> dict[str, Tensor]:
    """The slope of the loss with respect to each parameter."""
    logits = forward(runner, network._blocks, runner.enter(torch.from_numpy(x)))
    loss = F.cross_entropy(logits.float(), torch.arange(len(x)) % 3)
    names = parameters(network._blocks)
    found = torch.autograd.grad(loss, [network.tensors[name] for name in names])
    return dict(zip(names, found, strict=True))


def statistics(network: TorchNetwork) -> dict[str, np.ndarray]:
    return {name: value for name, value in network.state().items() if ".running_" in name}


@pytest.mark.parametrize("learns_statistics", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_in_float32_its_gradients_are_those_of_the_plain_steps(
    name: str, learns_statistics: bool
) -> None:
    x, found = images_of(NETWORKS[name]), []
    for kind in (TrainRunner, TailRunner):
        network = network_of(NETWORKS[name])
        more = {"dtype": torch.float32} if kind is TailRunner else {}
        runner = kind(network.tensors, learns_statistics, np.random.default_rng(0), **more)
        found.append((gradients(network, runner, x), statistics(network)))
    (plain, kept), (ours, moved) = found
    nothing = 1e-4 * max(float(slope.norm()) for slope in plain.values())
    for leaf, expected in plain.items():
        far = float((ours[leaf] - expected).norm() / (expected.norm() + nothing))
        assert far < 5e-2, f"{leaf}: {far:.1e}"  # kinks lie between
    for leaf, value in kept.items():
        np.testing.assert_allclose(moved[leaf], value, rtol=1e-4, atol=1e-5, err_msg=leaf)


class Autocast(TrainRunner):
    """What PyTorch offers for training in bfloat16."""

    def step(self, step: Step, x: Tensor, add: Tensor | None = None) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().step(step, x, add)


@pytest.mark.usefixtures("_half")
@pytest.mark.parametrize("name", NETWORKS)
def test_in_bfloat16_its_gradients_are_as_near_as_those_of_pytorchs_autocast(name: str) -> None:
    network, x = network_of(NETWORKS[name]), images_of(NETWORKS[name], 8)

    def whole(kind: type[TrainRunner]) -> Tensor:
        found = gradients(network, kind(network.tensors), x)
        assert all(slope.dtype == torch.float32 for slope in found.values())
        return torch.cat([slope.flatten() for slope in found.values()])

    exact, ours, theirs = (whole(kind) for kind in (TrainRunner, TailRunner, Autocast))
    assert 0 < (ours - exact).norm() < 1.3 * (theirs - exact).norm() + 0.1 * exact.norm()


CASES = {
    "1x1": (Window(1, (0, 0), 1), (16, 8, 1, 1), 9),
    "1x1 strided": (Window(2, (0, 0), 1), (16, 8, 1, 1), 9),
    "3x3": (Window(1, (1, 1), 1), (16, 8, 3, 3), 9),
    "3x3 strided": (Window(2, (1, 1), 1), (16, 8, 3, 3), 9),
    "3x3 of many places": (Window(1, (1, 1), 1), (8, 4, 3, 3), 20),
    "1x7": (Window(1, (0, 3), 1), (16, 8, 1, 7), 9),
    "groups": (Window(1, (1, 1), 2), (16, 4, 3, 3), 9),
    "depthwise": (Window(1, (2, 2), 8), (8, 1, 5, 5), 9),
    "depthwise strided": (Window(2, (1, 1), 8), (8, 1, 3, 3), 9),
}


@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "silu"])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_a_convolution_equals_pytorchs_operators(
    case: str, dtype: torch.dtype, adds: bool, activation: str
) -> None:
    """Values and gradients, those of the kernel, its factor, the bias, the images and the sum."""
    if dtype == torch.bfloat16 and not has_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bfloat16")
    window, shape, side = CASES[case]
    channels = shape[1] * window.groups

    def made(*size: int, seed: int) -> Tensor:
        # What bfloat16 holds exactly: what is rounded later is what differs.
        return torch.from_numpy(noise(*size, seed=seed)).bfloat16().float().requires_grad_()

    x, weight = made(2, channels, side, side, seed=1), made(*shape, seed=2)
    bias, factor = made(shape[0], seed=3), made(shape[0], seed=4)

    def plainly() -> Tensor:
        kernel = weight * factor[:, None, None, None]
        y = F.conv2d(x, kernel, bias, window.stride, window.padding, groups=window.groups)
        return ACTIVATIONS[activation](y + add if adds else y)

    add = torch.zeros(())
    add = made(*plainly().shape, seed=5)
    given = [x, weight, bias, factor, *([add] if adds else [])]

    def fused() -> Tensor:
        images, more = (each.to(dtype, memory_format=torch.channels_last) for each in (x, add))
        kernel = folded(weight, factor, dtype)
        return convolved(images, kernel, bias, more if adds else None, window, activation)

    slope = torch.from_numpy(noise(*add.shape, seed=6))
    expected, found = plainly(), fused()
    assert found.dtype == dtype
    pairs = zip(
        (expected, *torch.autograd.grad(expected, given, slope)),
        (found, *torch.autograd.grad(found, given, slope.to(dtype))),
        strict=True,
    )
    for one, other in pairs:
        assert other.shape == one.shape
        far = float((other.float() - one).detach().norm() / one.detach().norm())
        # Where a rounded sum lies on the other side of a kink, its gradient does not pass.
        rounding = 0.3 if "relu" in activation else 0.03
        assert far < (3e-5 if dtype == torch.float32 else rounding)


def test_a_weight_without_factor_is_rounded_and_its_gradient_comes_back() -> None:
    weight = torch.from_numpy(noise(4, 3, 3, 3)).requires_grad_()
    half = rounded(weight, torch.bfloat16)
    assert half.is_contiguous(memory_format=torch.channels_last)
    half.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones_like(weight))


@pytest.mark.usefixtures("_half")
@pytest.mark.parametrize("freezes", [False, True])
def test_losses_of_twenty_steps_are_near(freezes: bool) -> None:
    """And what is kept between steps is float32."""
    x, y = images_of(MODELS["resnet18"], 6), np.repeat(np.arange(3), 2)
    losses = []
    for precision in ("fp32", "bf16"):
        network = network_of(MODELS["resnet18"], precision)
        network.prepare(Update(freeze_bn=freezes))
        losses.append([network.step(x, y, rates(network, 3e-5)) for _ in range(20)])
        kept = {**network.state(), **network.optimizer_state()}
        assert all(value.dtype == np.float32 for value in kept.values())
    exact, half = np.array(losses)
    np.testing.assert_allclose(half, exact, rtol=0.1)
    assert exact[-1] < 0.5 * exact[0]
    assert (exact != half).all()


@pytest.mark.usefixtures("_half")
def test_a_head_on_vectors_trains_in_float32() -> None:
    states = []
    for precision in ("fp32", "bf16"):
        network = network_of(MODELS["resnet18"], precision)
        network.cut_at(len(network.units) - 4)
        assert network.units[network.cut].stage == "head"
        x, y = noise(6, 512), np.repeat(np.arange(3), 2)
        losses = [network.step(x, y, rates(network)) for _ in range(3)]
        states.append((losses, network.state()))
    (losses, one), (others, other) = states
    assert losses == others
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value)
