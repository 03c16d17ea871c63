from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyflux_transfer.serving.devices import environments, max_batch, visible_gpus
from pyflux_transfer.serving.settings import Settings, settings


def make(**given: Any) -> Settings:
    return settings(bundle="a.safetensors", **given)


def test_gpus_are_counted_without_an_engine(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia0", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert visible_gpus({}, tmp_path) == ["0", "2", "10"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "1, GPU-7"}, tmp_path) == ["1", "GPU-7"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, ["1", "3"]),
        ({"workers": 3}, ["1", "3", "1"]),
        ({"device": "cpu"}, [None]),
        ({"device": "cpu", "workers": 2}, [None, None]),
    ],
)
def test_one_worker_a_gpu_unless_told_otherwise(
    given: dict[str, Any], seen: list[str | None]
) -> None:
    rows = environments(make(**given), {"CUDA_VISIBLE_DEVICES": "1,3"})
    assert [row.get("CUDA_VISIBLE_DEVICES") for row in rows] == seen


def test_batches_are_larger_on_a_gpu_unless_told_otherwise() -> None:
    gpu = {"CUDA_VISIBLE_DEVICES": "0"}
    assert max_batch(make(), gpu) == 32
    assert max_batch(make(device="cpu"), gpu) == 8
    assert max_batch(make(max_batch=3), gpu) == 3


def test_workers_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyflux_transfer.serving.devices.CPUS", 9)
    rows = environments(make(workers=2, device="cpu"), {})
    assert [row["OMP_NUM_THREADS"] for row in rows] == ["4", "4"]
    (row,) = environments(make(device="cpu"), {})
    assert row["OMP_NUM_THREADS"] == "9"
    (row,) = environments(make(device="cpu"), {"OMP_NUM_THREADS": "7"})
    assert "OMP_NUM_THREADS" not in row
    (row,) = environments(make(device="cpu", threads=3), {"OMP_NUM_THREADS": "7"})
    assert row["OMP_NUM_THREADS"] == "3"
