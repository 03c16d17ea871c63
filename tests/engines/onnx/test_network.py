"""The engine on ONNX Runtime: what every engine must do, every family, and what it refuses."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from pyflux_transfer.engines.base import Network, Plan, Update
from pyflux_transfer.engines.onnx import network as onnx
from pyflux_transfer.engines.torch import network as torch
from pyflux_transfer.errors import EngineError, InputError
from pyflux_transfer.networks.catalog import MODELS, Architecture
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import resolve_cut, tensors
from tests.engines import fake
from tests.engines.conformance import Build, Evaluating
from tests.engines.seeded import noise, seeded
from tests.engines.small import SMALL, TRANSFORMERS

FAMILIES = {**SMALL, **TRANSFORMERS}


class OnnxConformance(Evaluating):
    across_cuts = 2e-6  # what lies together is computed together

    @pytest.fixture(autouse=True)
    def _threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "2")

    @pytest.fixture
    def build(self) -> Build:
        return onnx.build

    def addresses(self, network: Network) -> dict[str, int]:
        assert isinstance(network, onnx.OnnxNetwork)
        return {name: value.ctypes.data for name, value in network.tensors.items()}


class TestTiny(OnnxConformance):
    pass


class TestResnet(OnnxConformance):
    """A real network: residual blocks, strided shortcuts, padding."""

    side = 32

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(MODELS["resnet18"], Head(3, hidden=(10,), dropout=0.25), seed=3)


class Small(OnnxConformance):
    name = ""

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(FAMILIES[self.name], Head(3, hidden=(10,), dropout=0.25), seed=3)


def _small(name: str) -> type[Small]:
    side = FAMILIES[name].preprocessing.crop
    return type(f"Test_{name}", (Small,), {"name": name, "side": side})


for _name in FAMILIES:
    globals()[f"Test_{_name}"] = _small(_name)


def filled(build: Callable[[Plan], Any], row: Architecture, head: Head | None = None) -> Any:
    network = build(Plan(row, head, seed=None))
    network.load_state(seeded(row.name, tensors(network.units)))
    return network


def pair(row: Architecture, head: Head | None = None) -> tuple[Network, Network]:
    return filled(onnx.build, row, head), filled(torch.build, row, head)


# One of each family as it is published, of the smallest; with PYFLUX_PARITY set, all rows.
PUBLISHED = tuple(MODELS) if os.environ.get("PYFLUX_PARITY") else (
    "resnet18", "resnext50_32x4d", "vgg11_bn", "alexnet", "mobilenet_v2", "mobilenet_v3_small",
    "squeezenet1_1", "efficientnet_lite0", "efficientnet_b0", "densenet121", "googlenet",
    "inception_v3", "convnext_tiny", "vit_b_32", "dinov2_vits14",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_agrees_with_pytorch_whatever_the_size(name: str) -> None:
    ours, theirs = pair(MODELS[name])
    multiple = max(int(unit.options.get("multiple", 1)) for unit in ours.units)
    for sides in ((97, 129), (161, 98)):
        image = noise(1, 3, *(round(side / multiple) * multiple for side in sides))
        expected = theirs.logits(theirs.embed(image))
        found = ours.logits(ours.embed(image))
        assert np.abs(found - expected).max() < 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_features_of_every_cut_agree_with_pytorch(name: str) -> None:
    ours, theirs = pair(FAMILIES[name], Head(3))
    side = FAMILIES[name].preprocessing.crop
    images = noise(2, 3, side, side)
    for stage in FAMILIES[name].stages:
        cut = resolve_cut(ours.units, stage)
        for network in (ours, theirs):
            network.cut_at(cut)
        found, expected = ours.embed(images), theirs.embed(images)
        far = 1e-4 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=far)
        np.testing.assert_allclose(ours.logits(found), theirs.logits(found), rtol=0, atol=far)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "vit_b_32"])
def test_no_number_depends_on_the_count_of_threads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = filled(onnx.build, MODELS[name])
    images = noise(3, 3, 96, 96)
    found = []
    for threads in (1, 2, 3, 5):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        found += [network.logits(network.embed(part)) for part in (images[:1], images)]
    for answer in found[1:]:
        np.testing.assert_array_equal(answer[:1], found[0])


def test_a_head_is_computed_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    network = filled(onnx.build, MODELS["resnet18"], Head(3))
    network.cut_at(resolve_cut(network.units, "head"))
    network.logits(network.embed(noise(1, 3, 40, 40)))
    counts = [
        session._session.get_session_options().intra_op_num_threads
        for session in network._sessions.values()
    ]
    assert counts == [2, 1]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "vit_b_32"])
def test_for_one_photo_the_graph_is_left_as_it_is(name: str) -> None:
    usual = filled(onnx.build, MODELS[name])
    once = onnx.build(replace(usual._plan, photos=1))
    once.load_state(usual.tensors)
    image, levels = noise(1, 3, 96, 96), []
    answers = [network.logits(network.embed(image)) for network in (usual, once)]
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-4 * np.abs(answers[0]).max())
    for network in (usual, once):
        (session,) = network._sessions.values()
        levels.append(session._session.get_session_options().graph_optimization_level)
    level = onnxruntime.GraphOptimizationLevel
    assert levels == [level.ORT_ENABLE_ALL, level.ORT_DISABLE_ALL]


@pytest.mark.parametrize("same", [True, False])
def test_vectors_pass_together_where_that_changes_no_bit(
    same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    network = filled(onnx.build, MODELS["alexnet"], Head(3, hidden=(64,)))
    network.cut_at(resolve_cut(network.units, "head"))
    x = noise(19, *network.trace((1, 3, 97, 97))[network.cut].input[1:])
    alone = np.concatenate([network.logits(x[i : i + 1]) for i in range(len(x))])
    if not same:
        monkeypatch.setattr("pyflux_transfer.engines.onnx.session.np.array_equal", lambda *_: False)
    np.testing.assert_array_equal(network.logits(x), alone)
    (session,) = network._sessions.values()
    assert session.rows in ((1, 8) if same else (1,))


def test_evaluations_at_a_time_do_not_meet() -> None:
    network = filled(onnx.build, MODELS["resnet18"], Head(3))
    network.cut_at(len(network.units) - 1)
    batches = [noise(count, 3, 33, 40, seed=count) for count in (1, 5, 2, 9, 3, 1)]
    alone = [network.logits(network.embed(x)) for x in batches]
    assert network.concurrency > 1
    with ThreadPoolExecutor(network.concurrency) as threads:
        found = list(threads.map(lambda x: network.logits(network.embed(x)), batches))
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_few_sessions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    network = filled(onnx.build, MODELS["resnet18"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sizes = range(33, 60, 3)
    for size in sizes:
        network.embed(noise(1, 3, size, size))
        network.logits(noise(1, 3, size, size))
    assert 0 < len(network._sessions) < len(sizes)
    whole = sum(value.nbytes for value in network.tensors.values())
    assert network._held() <= 2.5 * whole


def test_weights_that_nobody_can_write_are_not_copied() -> None:
    network = onnx.build(Plan(fake.TINY))
    state = network.state()
    for value in state.values():
        value.flags.writeable = False
    network.load_state(state)
    assert all(network.tensors[name] is value for name, value in state.items())


def test_it_moves_to_other_processes_and_is_copied() -> None:
    network = filled(onnx.build, MODELS["squeezenet1_1"], Head(3))
    network.cut_at(2)
    images = noise(2, 3, 32, 32)
    expected = network.logits(network.embed(images))
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert other.cut == 2
        np.testing.assert_array_equal(other.logits(other.embed(images)), expected)


def x() -> Array:
    return np.zeros((1, 3, 8, 8), np.float32)


@pytest.mark.parametrize(
    "call",
    [
        lambda n: n.prepare(Update()),
        lambda n: n.step(x(), np.zeros(1, np.int64), {}),
        lambda n: n.logit_gradient(x(), np.zeros(1, np.int64), 0),
        lambda n: n.optimizer_state(),
        lambda n: n.load_optimizer_state({}),
    ],
    ids=["prepare", "step", "gradient", "optimizer", "load"],
)
def test_what_trains_is_refused_with_the_remedy(call: Callable[[Network], object]) -> None:
    with pytest.raises(EngineError, match="engine='torch'"):
        call(onnx.build(Plan(fake.TINY)))


def test_other_devices_and_precisions_are_refused() -> None:
    with pytest.raises(EngineError, match="device='auto' or device='cpu'"):
        onnx.build(Plan(fake.TINY, device="cuda"))
    with pytest.raises(InputError, match="precision='auto' or precision='fp32'"):
        onnx.build(Plan(fake.TINY, precision="bf16"))
    assert onnx.build(Plan(fake.TINY, precision="auto")).precision == "fp32"


def test_features_of_two_engines_never_mix() -> None:
    plan = Plan(fake.TINY)
    ours, theirs = onnx.build(plan).arithmetic, torch.build(plan).arithmetic
    assert "onnxruntime" in ours
    assert ours != theirs


def test_it_computes_without_pytorch_and_julia() -> None:
    code = """
import sys, numpy as np
from pyflux_transfer.engines import build
from pyflux_transfer.engines.base import Plan
from tests.engines import fake
network = build("onnx", Plan(fake.TINY))
assert network.logits(network.embed(np.ones((2, 3, 8, 8), np.float32))).shape == (2, 1000)
sys.exit(any(name in sys.modules for name in ("torch", "juliacall")))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
