"""Weights from files of every kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from pyflux_transfer.engines import files
from pyflux_transfer.errors import InputError, WeightsError
from pyflux_transfer.networks.start import start
from pyflux_transfer.networks.tensors import State
from tests.engines.conformance import assert_same
from tests.engines.fake import TINY


@pytest.fixture
def state() -> State:
    return start(TINY.units, 0)


def as_torch(state: State) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in state.items()}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_files_round_trip(tmp_path: Path, state: State, suffix: str) -> None:
    path = tmp_path / f"tiny{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
        assert set(files.read(path)) == set(state)
    else:
        torch.save(as_torch(state), path)
        assert_same(files.read(str(path)), state)


def test_halves_become_float32_and_counters_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    tensors = {"a.weight": torch.ones(2, dtype=torch.bfloat16)}
    torch.save({**tensors, "bn.num_batches_tracked": torch.tensor(7)}, path)
    read = files.read(path)
    assert list(read) == ["a.weight"]
    assert read["a.weight"].dtype == np.float32


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_kinds_of_numbers_are_widened(tmp_path: Path, kind: str) -> None:
    bits = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    finite = torch.nan_to_num(bits.float()).to(getattr(torch, kind))
    finite = torch.nan_to_num(finite.float(), posinf=0.0, neginf=0.0).to(getattr(torch, kind))
    save_torch(
        {"a.weight": finite.reshape(16, 16), "b": torch.ones(2)}, tmp_path / "narrow.safetensors"
    )
    read = files.read(tmp_path / "narrow.safetensors")
    np.testing.assert_array_equal(read["a.weight"], finite.float().reshape(16, 16).numpy())
    np.testing.assert_array_equal(read["b"], [1, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_values_that_are_no_numbers_are_refused(
    tmp_path: Path, state: State, suffix: str, value: float
) -> None:
    state["conv2.weight"][1, 2] = value
    path = tmp_path / f"bad{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(as_torch(state), path)
    with pytest.raises(WeightsError, match=r"'conv2\.weight' holds NaN or infinite"):
        files.read(path)


def test_an_old_torch_reads_no_pickled_file_but_published_ones(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(as_torch(state), tmp_path / "tiny.pth")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(WeightsError, match=r"2\.9\.1.*pip install 'torch>=2\.10'.*safetensors"):
        files.read(tmp_path / "tiny.pth")
    assert_same(files.read(tmp_path / "tiny.pth", published=True), state)


def test_a_missing_file_and_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file: .*none\.pth"):
        files.read(tmp_path / "none.pth")
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(InputError, match=r"\.safetensors, \.pth, \.pt"):
        files.read(tmp_path / "model.h5")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0, 20, 500])
def test_a_file_cut_short_is_named(tmp_path: Path, state: State, suffix: str, kept: int) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(as_torch(state), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=rf"cut\{suffix} is .*[Cc]opy it again"):
        files.read(path)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran"),))  # type: ignore[return-value]


def test_pickled_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a.weight": Bomb()}, "bomb.pth")
    with pytest.raises(WeightsError, match="could run code"):
        files.read("bomb.pth")
    assert not Path("ran").exists()


@pytest.mark.parametrize("place", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_gives_the_tensors_it_holds(tmp_path: Path, state: State, place: str) -> None:
    wrapped = {f"module.{name}": value for name, value in as_torch(state).items()}
    torch.save({"epoch": 3, place: wrapped, "optimizer": {}}, tmp_path / "run.pth.tar")
    assert_same(files.read(tmp_path / "run.pth.tar"), state)


def test_what_is_no_tensor_is_named(tmp_path: Path, state: State) -> None:
    torch.save({"epoch": 3, "ema": as_torch(state)}, tmp_path / "run.pth")
    with pytest.raises(WeightsError, match=r"'epoch' is a int.*state_dict\(\) alone"):
        files.read(tmp_path / "run.pth")
    torch.save(torch.ones(2), tmp_path / "one.pth")
    with pytest.raises(WeightsError, match="holds a Tensor"):
        files.read(tmp_path / "one.pth")


def test_a_process_without_torch_stays_without_it(tmp_path: Path, state: State) -> None:
    torch.save(as_torch(state), tmp_path / "tiny.pth")
    (tmp_path / "broken.pth").write_bytes(b"no")
    code = f"""
import sys
from pyflux_transfer.engines import files
from pyflux_transfer.errors import WeightsError
print(len(files.read({str(tmp_path / "tiny.pth")!r})))
try:
    files.read({str(tmp_path / "broken.pth")!r})
except WeightsError as error:
    print(error)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, message, present = done.stdout.splitlines()
    assert int(count) == len(state)
    assert "broken.pth is damaged" in message
    assert present == "False"
