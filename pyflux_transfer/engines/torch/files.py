"""PyTorch's weight files (.pth, .pt), read without running what may be pickled in them.

Run as a program it writes the tensors to an .npz, for a process that must stay without PyTorch.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyflux_transfer.errors import PyFluxTransferError, WeightsError
from pyflux_transfer.networks.tensors import State

# Below this version `weights_only` can be got round (CVE-2025-32434, CVE-2026-24747).
SAFE = (2, 10)
# Where checkpoints of training scripts keep the tensors.
_PLACES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")


def read(path: str | Path, *, published: bool = False) -> State:
    """Return the tensors of a file by name, floating ones as float32.

    They may be all that is in it, or lie beside others of a checkpoint. Raises WeightsError for a
    damaged file, for one that holds code, for one without tensors by name, and where PyTorch is too
    old to refuse code safely; a `published` file, whose digest was compared, is read all the same.
    """
    if not published and _version() < SAFE:
        raise WeightsError(
            f"PyTorch {torch.__version__} cannot read {Path(path).name} safely: a file could run "
            f"code. Upgrade: pip install 'torch>={SAFE[0]}.{SAFE[1]}'. Or give a .safetensors file."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" not in str(error):
            raise WeightsError(
                f"{path} holds more than tensors, which could run code on loading; it was "
                "refused. Save model.state_dict() alone, or a .safetensors file."
            ) from error
        raise WeightsError(f"{path} is damaged or no PyTorch file. Copy it again.") from error
    return {str(name): _array(value) for name, value in _tensors(path, content).items()}


def _tensors(path: str | Path, content: object) -> dict[object, torch.Tensor]:
    """Return the tensors by name of a file's content."""
    if isinstance(content, dict):
        content = next((content[p] for p in _PLACES if isinstance(content.get(p), dict)), content)
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path} holds a {type(content).__name__}, not tensors by name. "
            "Save model.state_dict() alone."
        )
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise WeightsError(
                f"{path}: '{name}' is a {type(value).__name__}, not a tensor. "
                "Save model.state_dict() alone."
            )
    return content


def _version() -> tuple[int, ...]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _array(value: torch.Tensor) -> NDArray[Any]:
    value = value.detach()
    return np.ascontiguousarray((value.float() if value.is_floating_point() else value).numpy())


def main(source: str, target: str, published: str = "") -> int:
    """Convert `source` to an .npz at `target`; a failure's message goes to stderr."""
    try:
        arrays: dict[str, Any] = dict(read(source, published=bool(published)))
        np.savez(target, **arrays)
    except PyFluxTransferError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
