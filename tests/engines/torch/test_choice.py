"""What was measured decides, is measured once, and is the same for all who come after."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.torch import choice
from pyflux_transfer.engines.torch.convolution import has_bf16
from pyflux_transfer.engines.torch.fast import FastRunner
from pyflux_transfer.engines.torch.kinds import Block
from pyflux_transfer.engines.torch.network import build
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.tensors import Shape

Seconds = choice.Seconds
HALF = Seconds(fp32=2.0, bf16=1.0)


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a new process does."""
    monkeypatch.setattr(choice, "_known", {})


def never() -> Seconds:
    raise AssertionError("measured again")


def saying(found: Seconds) -> Callable[[], Seconds]:
    return lambda: found


def files() -> list[Path]:
    folder = Path(os.environ["PYFLUX_CACHE"]) / "precision"
    return sorted(folder.iterdir()) if folder.exists() else []


def test_only_a_clear_gain_is_one() -> None:
    assert choice.gains(Seconds(fp32=1.1, bf16=1.0))
    assert not choice.gains(Seconds(fp32=1.04, bf16=1.0))
    assert not choice.gains(Seconds(fp32=1.0, bf16=2.0))


def test_it_is_measured_once_for_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choice.kept("a", saying(HALF)) == HALF
    assert choice.kept("a", never) == HALF
    monkeypatch.setattr(choice, "_known", {})  # another process
    assert choice.kept("a", never) == HALF
    assert choice.kept("b", saying(Seconds(fp32=1.0, bf16=3.0)))["bf16"] == 3.0
    assert {json.loads(file.read_text())["kind"] for file in files()} == {"a", "b"}


def test_whoever_was_first_is_right() -> None:
    """Two processes that measure at a time go on with the same numbers."""

    def measure() -> Seconds:
        choice.kept("a", saying(HALF))
        choice._known.clear()
        return Seconds(fp32=1.0, bf16=2.0)

    assert choice.kept("a", measure) == HALF


def test_a_damaged_file_is_replaced() -> None:
    choice.kept("a", saying(HALF))
    for text in ("", "{}", "[]", '{"seconds": {"fp32": null}}'):
        files()[0].write_text(text)
        choice._known.clear()
        assert choice.kept("a", saying(Seconds(fp32=1.0, bf16=2.0)))["bf16"] == 2.0
        choice._known.clear()
        assert choice.kept("a", never)["bf16"] == 2.0


def test_a_file_system_without_links_keeps_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    choice.kept("a", saying(HALF))
    choice._known.clear()
    assert choice.kept("a", never) == HALF
    assert len(files()) == 1


def test_a_folder_that_cannot_be_written_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert choice.kept("a", saying(HALF)) == HALF
    assert choice.kept("a", never) == HALF


def test_the_oldest_choices_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "KEPT", 3)
    for number, kind in enumerate("abcde"):
        choice.kept(kind, saying(HALF))
        for file in files():
            if json.loads(file.read_text())["kind"] == kind:
                os.utime(file, (number, number))
    assert {json.loads(file.read_text())["kind"] for file in files()} == set("cde")


def test_units_are_taken_from_all_over_the_network() -> None:
    order = choice._spread(16)
    assert sorted(order) == list(range(16))
    assert order[:4] == [0, 8, 4, 12]


@pytest.mark.parametrize("name", ["squeezenet1_1", "efficientnet_lite0", "vit_b_32"])
def test_both_precisions_of_a_network_are_measured(name: str) -> None:
    if not has_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bfloat16")
    network = build(Plan(MODELS[name]))
    found = choice.measured(network._blocks, network.tensors, 224)
    assert min(found["fp32"], found["bf16"]) > 0


def test_the_measurement_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = build(Plan(MODELS["resnet50"])), []

    def slow(runner: FastRunner, block: Block, _: Shape) -> float:
        seen.append((block.unit.name, runner.dtype))
        until = time.thread_time() + choice.BOUND_S / 3
        while time.thread_time() < until:
            pass
        return 1.0

    monkeypatch.setattr(choice, "_shortest", slow)
    assert choice.measured(network._blocks, network.tensors, 224) == {"fp32": 2.0, "bf16": 2.0}
    first, second = (name for name, dtype in seen if dtype == torch.bfloat16)
    assert (first, second[:6]) == ("conv1", "layer4")
