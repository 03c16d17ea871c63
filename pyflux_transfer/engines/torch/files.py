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


def read(path: str | Path) -> State:
    """Return the tensors of a file by name, floating ones as float32.

    Raises WeightsError for a damaged file, for one that holds code, and for one that holds
    anything but tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" not in str(error):
            raise WeightsError(
                f"{path} holds more than tensors, which could run code on loading; it was "
                "refused. Save model.state_dict() alone, or a .safetensors file."
            ) from error
        raise WeightsError(f"{path} is damaged or no PyTorch file. Copy it again.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not tensors by name.")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise WeightsError(
                f"{path}: '{name}' is a {type(value).__name__}, not a tensor. "
                "Save model.state_dict() alone."
            )
    return {str(name): _array(value) for name, value in content.items()}


def _array(value: torch.Tensor) -> NDArray[Any]:
    value = value.detach()
    return np.ascontiguousarray((value.float() if value.is_floating_point() else value).numpy())


def main(source: str, target: str) -> int:
    """Convert `source` to an .npz at `target`; a failure's message goes to stderr."""
    try:
        arrays: dict[str, Any] = dict(read(source))
        np.savez(target, **arrays)
    except PyFluxTransferError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
