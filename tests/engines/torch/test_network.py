"""The PyTorch engine: conformance, its fast path, and PyTorch's own optimizers."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pyflux_transfer.engines.base import OPTIMIZERS, Network, Plan, Precision, Update
from pyflux_transfer.engines.torch import choice as torch_choice
from pyflux_transfer.engines.torch import convolution as torch_convolution
from pyflux_transfer.engines.torch import fast as torch_fast
from pyflux_transfer.engines.torch.network import TorchNetwork, build
from pyflux_transfer.errors import EngineError, InputError, TrainingError
from pyflux_transfer.networks.catalog import MODELS, Architecture
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.tensors import Array
from tests.engines import fake
from tests.engines.conformance import Build, Conformance, rates
from tests.engines.small import SMALL

# Small networks gain nothing from threads, and where other work runs beside they wait for it.
torch.set_num_threads(1)


def noise(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


class TorchConformance(Conformance):
    @pytest.fixture
    def build(self) -> Build:
        return build

    def addresses(self, network: Network) -> dict[str, int]:
        assert isinstance(network, TorchNetwork)
        return {name: value.data_ptr() for name, value in network.tensors.items()}


class TestTiny(TorchConformance):
    pass


class TestResnet(TorchConformance):
    """A real network: residual blocks, strided shortcuts, padding."""

    side = 32

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(MODELS["resnet18"], Head(3, hidden=(10,), dropout=0.25), seed=3)


class TestHalf(TorchConformance):
    """The same in bfloat16 where PyTorch computes it, training as well."""

    side = 32
    step_to_evaluation = 0.02
    difference = 0.01
    slope_of_head = True

    @pytest.fixture
    def plan(self) -> Plan:
        if not torch_convolution.has_bf16(torch.device("cpu")):
            pytest.skip("this processor has no bfloat16")
        return Plan(
            MODELS["efficientnet_lite0"],
            Head(3, hidden=(10,), dropout=0.25),
            seed=3,
            precision="bf16",
        )


class Small(TorchConformance):
    """A family in small, under the name that a subclass gives."""

    family: str

    @pytest.fixture(autouse=True)
    def _sized(self) -> None:
        self.side = SMALL[self.family].preprocessing.crop

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(SMALL[self.family], Head(3, hidden=(10,), dropout=0.25), seed=3)


class TestEfficientNet(Small):
    family = "efficientnet"


class TestMobileNetV3(Small):
    family = "mobilenet_v3"


class TestDenseNet(Small):
    family = "densenet"


class TestGoogLeNet(Small):
    family = "googlenet"


class TestInceptionV3(Small):
    family = "inception_v3"
    slope_of_head = True


# --- PyTorch's own training loop ----------------------------------------------------------------


def published_tiny(network: TorchNetwork) -> nn.Sequential:
    """The tiny network as modules, with the weights of `network`."""
    modules = nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU6(),
        nn.Conv2d(12, 16, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip
    kept = [n for n in modules.state_dict() if not n.endswith("num_batches_tracked")]
    state = dict(zip(kept, network.state().values(), strict=True))
    modules.load_state_dict({n: torch.tensor(v) for n, v in state.items()}, strict=False)
    return modules


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_torch_optim(name: str) -> None:
    """Losses and weights equal those of nn.Module, nn.CrossEntropyLoss and torch.optim."""
    network = build(Plan(fake.TINY, Head(3), seed=1))
    modules = published_tiny(network)
    network.prepare(Update(name, weight_decay=0.1, label_smoothing=0.1))
    classes = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    more = {"momentum": 0.9} if name == "sgd" else {}
    groups = [
        {"params": modules[:10].parameters(), "lr": 1e-3},
        {"params": modules[10].parameters(), "lr": 1e-2},
    ]
    optimizer = classes[name](groups, weight_decay=0.1, **more)
    weights = np.array([1.0, 2.0, 0.5], np.float32)
    criterion = nn.CrossEntropyLoss(torch.from_numpy(weights), label_smoothing=0.1)
    speed = {"stem": 1e-3, "stage1": 1e-3, "stage2": 1e-3, "head": 1e-2}
    x, y = noise(6, 3, 4, 4), np.array([0, 1, 2, 0, 1, 2])
    for _ in range(5):
        loss = criterion(modules(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert network.step(x, y, speed, weights) == pytest.approx(loss.item(), rel=1e-5)
    theirs = [v for n, v in modules.state_dict().items() if not n.endswith("tracked")]
    for (leaf, ours), other in zip(network.state().items(), theirs, strict=True):
        np.testing.assert_allclose(ours, other.numpy(), atol=1e-5, err_msg=leaf)


def test_batchnorm_cannot_learn_from_one_value() -> None:
    network = build(Plan(MODELS["resnet18"], Head(2)))
    x, y = noise(1, 3, 32, 32), np.array([1])
    with pytest.raises(TrainingError, match="at least 2 images, or freeze_bn"):
        network.step(x, y, rates(network))
    network.prepare(Update(freeze_bn=True))
    assert np.isfinite(network.step(x, y, rates(network)))


def test_an_image_too_small_names_the_unit() -> None:
    network = build(Plan(MODELS["alexnet"], Head(2)))
    with pytest.raises(InputError, match=r"'features\.5' cannot take .* \(1, 192, 2, 2\)"):
        network.apply(noise(1, 3, 27, 27), 0, len(network.units))


def test_a_network_without_weights_says_so() -> None:
    network = build(Plan(MODELS["resnet18"], seed=None))
    with pytest.raises(EngineError, match="load_state"):
        network.logits(noise(1, 3, 32, 32))


def test_cuda_without_a_card_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="device='auto' or 'cpu'"):
        build(Plan(fake.TINY, device="cuda"))


def test_building_draws_no_weights_before_they_are_needed() -> None:
    network = build(Plan(fake.TINY))
    state = {name: value + 1 for name, value in network.state().items()}
    other = build(Plan(fake.TINY))
    other.load_state(state)
    np.testing.assert_array_equal(other.state()["conv1.weight"], state["conv1.weight"])


# --- the fast path ------------------------------------------------------------------------------


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "efficientnet_lite0"])
def test_the_fast_path_equals_the_plain_one(
    name: str, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With packed weights and, for builds and devices without them, PyTorch's convolutions."""
    monkeypatch.setattr(torch_convolution, "_has_onednn", lambda: onednn)
    network = build(Plan(MODELS[name], seed=2))
    x = noise(2, 3, 64, 75)  # an even and an odd side: SAME padding differs
    runner = torch_fast.TrainRunner(network.tensors)
    with torch.inference_mode():
        plain = torch_fast.forward(runner, network._blocks, torch.from_numpy(x)).numpy()
    bound = 1e-5 * np.abs(plain).max()
    np.testing.assert_allclose(network.logits(network.embed(x)), plain, rtol=0, atol=bound)


def test_evaluations_at_a_time_do_not_meet() -> None:
    network = build(Plan(MODELS["resnet18"], Head(3), seed=2))
    network.cut_at(len(network.units) - 1)
    batches = [noise(count, 3, 33, 40) for count in (1, 5, 2, 9, 3, 1)]
    alone = [network.logits(network.embed(x)) for x in batches]
    assert network.concurrency > 1
    with ThreadPoolExecutor(network.concurrency) as threads:
        found = list(threads.map(lambda x: network.logits(network.embed(x)), batches))
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_only_units_with_new_weights_are_prepared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build(Plan(fake.TINY, Head(3)))
    prepared = []
    original = torch_fast.FastRunner._prepared

    def counting(
        self: torch_fast.FastRunner, step: torch_fast.Step, *more: Any
    ) -> torch_fast.Convolution:
        prepared.append(step.layer.name)
        return original(self, step, *more)

    monkeypatch.setattr(torch_fast.FastRunner, "_prepared", counting)
    x, y = noise(2, 3, 4, 4), np.array([0, 1])

    def evaluate() -> list[str]:
        prepared.clear()
        network.apply(x, 0, len(network.units))
        return list(prepared)

    assert evaluate() == ["conv1", "conv2", "conv3"]
    assert evaluate() == []
    network.cut_at(1)
    assert evaluate() == []
    network.step(network.embed(x), y, rates(network))
    assert evaluate() == ["conv2", "conv3"]
    state = network.state()
    network.load_state(state)
    assert evaluate() == []
    state["bn1.running_mean"] = state["bn1.running_mean"] + 1
    network.load_state(state)
    assert evaluate() == ["conv1"]


@pytest.fixture
def _half() -> None:
    if not torch_convolution.has_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bfloat16")


def precision(asked: Precision) -> str:
    return build(Plan(MODELS["resnet18"], Head(3), precision=asked)).precision


def measured(monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float) -> None:
    """Let the measurement find these times."""
    monkeypatch.setattr(torch_choice, "_known", {})
    monkeypatch.setattr(torch_choice, "measured", lambda *_: {"fp32": fp32, "bf16": bf16})


@pytest.mark.usefixtures("_half")
@pytest.mark.parametrize(("fp32", "auto"), [(2.0, "bf16"), (1.0, "fp32")])
def test_auto_takes_bf16_where_it_is_faster_and_the_check_agrees(
    monkeypatch: pytest.MonkeyPatch, fp32: float, auto: str
) -> None:
    measured(monkeypatch, fp32, 1.0)
    assert (precision("fp32"), precision("bf16"), precision("auto")) == ("fp32", "bf16", auto)


@pytest.mark.usefixtures("_half")
def test_auto_stays_with_its_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of one precision must not be computed in the other the next time."""
    measured(monkeypatch, 2.0, 1.0)
    assert precision("auto") == "bf16"
    monkeypatch.setattr(torch_choice, "measured", lambda *_: {"fp32": 1.0, "bf16": 2.0})
    assert precision("auto") == "bf16"
    torch_choice._known.clear()  # as in another process
    assert precision("auto") == "bf16"


@pytest.mark.usefixtures("_half")
def test_auto_stays_with_fp32_where_the_check_does_not_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bias that the next BatchNorm takes away again leaves bfloat16 nothing but its rounding."""
    measured(monkeypatch, 2.0, 1.0)
    network = build(Plan(fake.TINY, Head(3), precision="auto"))
    state = network.state()
    state["bn1.bias"] = state["bn1.bias"] + 3e4
    summed = state["conv2.weight"].sum((1, 2, 3))
    state["bn2.running_mean"] = state["bn2.running_mean"] + 3e4 * summed
    state["classifier.weight"] = 10 * state["classifier.weight"]
    network.load_state(state)
    assert network.precision == "fp32"


@pytest.mark.parametrize("row", [MODELS["inception_v3"], MODELS["dinov2_vits14"]])
def test_the_check_takes_images_that_the_network_takes(row: Architecture) -> None:
    """Inception needs 75 pixels a side, DINOv2 multiples of 14."""
    network = build(Plan(row, Head(3), seed=1))
    assert torch_fast.agrees(torch_fast.FastRunner(network.tensors, torch.float32), network._blocks)


def test_no_images_fit_a_network_whose_units_do_not_fit_together() -> None:
    with pytest.raises(EngineError, match="fp32"):
        torch_fast._smallest([*fake.TINY.units, *fake.TINY.units])


def test_without_hardware_auto_is_fp32_and_bf16_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pyflux_transfer.engines.torch.network.has_bf16", lambda _: False)
    assert precision("auto") == "fp32"
    with pytest.raises(InputError, match="precision='auto'"):
        precision("bf16")


@pytest.mark.usefixtures("_half")
def test_bf16_probabilities_are_near_and_features_are_float32() -> None:
    plan = Plan(MODELS["resnet18"], Head(3), seed=1)
    exact, half = build(plan), build(replace(plan, precision="bf16"))
    x = noise(4, 3, 64, 64)
    half.cut_at(5)
    features = half.embed(x)
    assert features.dtype == np.float32
    logits, expected = half.logits(features), exact.logits(exact.embed(x))
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    assert 0 < difference < 0.05


def test_training_imports_no_compiler() -> None:
    """PyTorch's optimizer classes would: seconds before the first step."""
    code = """
import sys, numpy as np
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.torch.network import build
from pyflux_transfer.networks.head import Head
from tests.engines import fake
network = build(Plan(fake.TINY, Head(2)))
rates = dict.fromkeys(("stem", "stage1", "stage2", "head"), 0.1)
network.step(np.ones((2, 3, 4, 4), np.float32), np.array([0, 1]), rates)
network.trace((1, 3, 8, 8))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_state_takes_no_memory_until_the_network_changes() -> None:
    plan = Plan(fake.TINY, Head(3), seed=1)
    first, second = build(plan), build(replace(plan, seed=None))
    second.load_state(first.state())
    second.cut_at(2)
    second.step(second.embed(np.ones((2, 3, 8, 8), np.float32)), np.arange(2), rates(second))

    def alone() -> list[str]:
        mine, theirs = first.tensors, second.tensors
        return [name for name in mine if mine[name].data_ptr() != theirs[name].data_ptr()]

    assert alone() == list(second.state(2))
