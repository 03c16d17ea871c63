"""Files of weights, of any framework, as arrays by name."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize, safe_open

from pyflux_transfer.errors import InputError, WeightsError
from pyflux_transfer.networks.tensors import Array, State, check_finite
from pyflux_transfer.networks.weights.fit import unwrapped

_TORCH_FILES = "pyflux_transfer.engines.torch.files"


def read(path: str | Path, *, published: bool = False) -> State:
    """Return the tensors of a .safetensors file (a bundle too), .pth or .pt, by name, as float32.

    BatchNorm's counters and prefixes of wrappers (`module.`, `_orig_mod.` …) are left out.
    `published` says that the file's digest was compared. Raises InputError for a missing file or
    another kind, and WeightsError for one that is damaged, holds code, or values that are no
    numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No such file: {path}.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"Weights come as {', '.join(_READERS)}, got {path.name!r}. Convert the file first."
        )
    try:
        _refuse_pointer(path)
        tensors = reader(path, published)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    state = unwrapped(
        {
            name: np.ascontiguousarray(value, np.float32)
            for name, value in tensors.items()
            if not name.endswith(".num_batches_tracked")
        }
    )
    check_finite(state, str(path))
    return state


def _refuse_pointer(path: Path) -> None:
    """Refuse what stands where a large file should be in a Git repository without LFS."""
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise WeightsError(f"{path} is a pointer of Git LFS. Fetch the file: git lfs pull.")


_POINTER = b"version https://git-lfs"


def _read_safetensors(path: Path, published: bool) -> Mapping[str, Any]:
    del published
    try:
        with safe_open(str(path), framework="numpy") as file:
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            if not kinds & set(_WIDEN):
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return dict(_widened(path))
    except (SafetensorError, TypeError) as error:
        raise WeightsError(
            f"{path} is not a readable .safetensors file ({error}). It may be cut short: "
            "copy it again."
        ) from error


def _widened(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the tensors of a file that holds kinds of numbers which NumPy has not."""
    rows = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    for name, row in rows:
        kind, data = row["dtype"], row["data"]
        if kind in _WIDEN:
            raw, widen = _WIDEN[kind]
            values = widen(np.frombuffer(data, raw))
        elif kind in _NUMPY:
            values = np.frombuffer(data, _NUMPY[kind])
        else:
            raise WeightsError(f"{path}: '{name}' is {kind}, which is not supported. Use F32.")
        yield name, values.reshape(row["shape"])


def _from_bf16(bits: NDArray[Any]) -> Array:
    """Return bfloat16: the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _from_e5m2(bits: NDArray[Any]) -> Array:
    """Return 8-bit floats that are the upper half of a float16."""
    return (bits.astype(np.uint16) << 8).view(np.float16).astype(np.float32)


def _from_e4m3(bits: NDArray[Any]) -> Array:
    """Return 8-bit floats: sign, 4 bits of exponent from 2⁻⁶, 3 of fraction; all ones are NaN."""
    code = np.arange(256)
    exponent, fraction = code >> 3 & 15, code & 7
    value = np.where(exponent, (8 + fraction) * 2.0 ** (exponent - 10), fraction * 2.0**-9)
    value = np.where(code & 127 == 127, np.nan, value) * np.where(code & 128, -1, 1)
    return np.asarray(value.astype(np.float32)[bits])


# Kinds of numbers as .safetensors name them → those of NumPy that hold their bits, and the numbers.
_WIDEN: dict[str, tuple[str, Callable[[NDArray[Any]], Array]]] = {
    "BF16": ("<u2", _from_bf16),
    "F8_E4M3": ("u1", _from_e4m3),
    "F8_E5M2": ("u1", _from_e5m2),
}
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
          "I8": "i1", "U8": "u1", "BOOL": "?"}  # fmt: skip


def _read_torch(path: Path, published: bool) -> Mapping[str, Any]:
    """Read here where PyTorch runs already, else in a process of its own.

    Julia and PyTorch cannot start in either order in one process, so a process that may use Julia
    stays without PyTorch.
    """
    if "torch" in sys.modules:
        state: State = import_module(_TORCH_FILES).read(path, published=published)
        return state
    if find_spec("torch") is None:
        raise WeightsError(
            f"Reading {path.name} needs PyTorch: pip install torch. "
            "Or convert the file to .safetensors where PyTorch is."
        )
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "tensors.npz")
        command = [sys.executable, "-m", _TORCH_FILES, str(path), target]
        command += ["published"] if published else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise WeightsError(lines[-1])
        with np.load(target, allow_pickle=False) as arrays:
            return dict(arrays)


_READERS: dict[str, Callable[[Path, bool], Mapping[str, Any]]] = {
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".ckpt": _read_torch,
    ".bin": _read_torch,
    ".tar": _read_torch,
}
