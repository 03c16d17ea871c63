"""Files of weights, of any framework, as arrays by name."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pyflux_transfer.errors import InputError, WeightsError
from pyflux_transfer.networks.tensors import State

_TORCH_FILES = "pyflux_transfer.engines.torch.files"


def read(path: str | Path) -> State:
    """Return the tensors of a .safetensors file (a bundle too), .pth or .pt, by name, as float32.

    BatchNorm's counters are left out. Raises InputError for a missing file or another kind, and
    WeightsError for one that is damaged or holds code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No such file: {path}.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"Weights come as {', '.join(_READERS)}, got {path.name!r}. Convert the file first."
        )
    return {
        name: np.ascontiguousarray(value, np.float32)
        for name, value in reader(path).items()
        if not name.endswith(".num_batches_tracked")
    }


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise WeightsError(
            f"{path} is not a readable .safetensors file ({error}). It may be cut short: "
            "copy it again."
        ) from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    """Read here where PyTorch runs already, else in a process of its own.

    Julia and PyTorch cannot start in either order in one process, so a process that may use Julia
    stays without PyTorch.
    """
    if "torch" in sys.modules:
        state: State = import_module(_TORCH_FILES).read(path)
        return state
    if find_spec("torch") is None:
        raise WeightsError(
            f"Reading {path.name} needs PyTorch: pip install torch. "
            "Or convert the file to .safetensors where PyTorch is."
        )
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "tensors.npz")
        command = [sys.executable, "-m", _TORCH_FILES, str(path), target]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise WeightsError(lines[-1])
        with np.load(target, allow_pickle=False) as arrays:
            return dict(arrays)


_READERS: dict[str, Callable[[Path], Mapping[str, Any]]] = {
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
}
