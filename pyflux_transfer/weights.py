"""Where weights come from: files, the published ImageNet weights, and the fit to a plan."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from safetensors import SafetensorError, safe_open

from pyflux_transfer.catalog import MODELS, Architecture
from pyflux_transfer.engines.base import Plan, State, check_state
from pyflux_transfer.engines.start import start
from pyflux_transfer.errors import InputError, StorageError, WeightsError
from pyflux_transfer.units import Unit, tensors

CONNECT_S = 10.0  # no answer for so long: there is no network
DEADLINE_S = 1800.0  # for a whole download
_TORCH_FILES = "pyflux_transfer.engines.torch_files"


def cache_folder() -> Path:
    """Return the user's cache folder; the environment variable PYFLUX_CACHE overrides it."""
    given = os.environ.get("PYFLUX_CACHE")
    return Path(given) if given else platformdirs.user_cache_path("pyflux-transfer")


# --- files --------------------------------------------------------------------------------------


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


# --- published weights --------------------------------------------------------------------------


def published(architecture: Architecture) -> State:
    """Return the ImageNet weights of an architecture by torchvision's names.

    They come from the installed package that carries them, from the user's cache, or are
    downloaded into it. Raises WeightsError where they cannot be had, with what works offline.
    """
    state = read(_packaged(architecture) or _downloaded(architecture))
    if architecture.name == "efficientnet_lite0":  # the one file with names of its own
        state = _renamed(state, _lite0_names(architecture.units))
    check_state(state, architecture.units)
    return state


def available_offline() -> list[str]:
    """Names of the architectures whose ImageNet weights are on this machine."""
    return [name for name, row in MODELS.items() if _package_file(row) or _cached(row).is_file()]


def _cached(row: Architecture) -> Path:
    return cache_folder() / "weights" / (row.weights.url.rsplit("/", 1)[-1] or row.name)


def _package_file(row: Architecture) -> Path | None:
    """The weights in the installed package, found by the digest in the file's name."""
    if not row.weights.package:
        return None
    try:
        files = importlib.metadata.files(row.weights.package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())) for file in files if row.weights.sha256[:8] in file.name)
    return next((path for path in found if path.is_file()), None)


def _packaged(row: Architecture) -> Path | None:
    path = _package_file(row)
    if path is None and row.weights.package and not row.weights.url:
        raise WeightsError(
            f"The ImageNet weights of {row.name} come with a package that is not installed: "
            f"pip install {row.weights.package}.{_offline()}"
        )
    if path is not None and not _digest(path).startswith(row.weights.sha256):
        raise WeightsError(
            f"{path} is damaged: its sha256 is not {row.weights.sha256}…. "
            f"pip install --force-reinstall {row.weights.package}"
        )
    return path


def _downloaded(row: Architecture) -> Path:
    target = _cached(row)
    if target.is_file() and _digest(target).startswith(row.weights.sha256):
        return target
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            temporary = Path(file.name)
            for chunk in _chunks(row):
                file.write(chunk)
        if not _digest(temporary).startswith(row.weights.sha256):
            raise WeightsError(
                f"What {row.weights.url} sent is not the published file: its sha256 is not "
                f"{row.weights.sha256}…. Try again, or pass weights='path/to/file.pth'."
            )
        temporary.replace(target)
    except OSError as error:
        raise StorageError(
            f"Cannot keep weights in {target.parent}: {error}. "
            "Free some space, or set PYFLUX_CACHE to another folder."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def _chunks(row: Architecture) -> Iterator[bytes]:
    """Yield what the address sends; where it cannot be had say what was tried, and what to do."""
    url, end = row.weights.url, time.monotonic() + DEADLINE_S
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_S) as answer:
            while chunk := answer.read(2**20):
                if time.monotonic() > end:
                    raise TimeoutError(f"not complete after {DEADLINE_S:.0f} s")
                yield chunk
    except (OSError, HTTPException) as error:
        raise WeightsError(
            f"Cannot download the ImageNet weights of {row.name} from {url}: "
            f"{getattr(error, 'reason', error)}. Pass weights='path/to/file.pth', or weights=None "
            f"for a random start.{_offline()}"
        ) from error


def _offline() -> str:
    names = available_offline()
    return f" These work offline: {', '.join(names)}." if names else ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _lite0_names(units: Sequence[Unit]) -> dict[str, str]:
    """Pair the package's names of layers with ours."""
    stem, *_, last, _, _, _, classifier = units
    pairs = dict(zip(("_conv_stem", "_bn0"), stem.layers, strict=True))
    pairs |= dict(zip(("_conv_head", "_bn1"), last.layers, strict=True))
    pairs["_fc"] = classifier.layers[0]
    leaves = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    for index, unit in enumerate(unit for unit in units if unit.kind == "inverted"):
        theirs = (f"_blocks.{index}.{leaf}" for leaf in leaves[-len(unit.layers) :])
        pairs |= dict(zip(theirs, unit.layers, strict=True))
    return {theirs: layer.name for theirs, layer in pairs.items()}


def _renamed(state: State, names: Mapping[str, str]) -> State:
    def ours(name: str) -> str:
        layer, leaf = name.rsplit(".", 1)
        return f"{names.get(layer, layer)}.{leaf}"

    return {ours(name): value for name, value in state.items()}


# --- fit to a plan ------------------------------------------------------------------------------


def for_plan(state: State, plan: Plan) -> State:
    """Return weights for all units of the plan, given those of its architecture.

    What the architecture and the plan share must be there, complete and of the right shape. The
    classifier's tensors are left out where the plan has another head, which begins at random
    with the plan's seed. Raises WeightsError with the tensor that does not fit.
    """
    given = {name: value.shape for name, value in state.items()}
    if plan.head is None or given == tensors(plan.units):
        check_state(state, plan.units)
        return state
    full = plan.architecture.units
    shared = [unit for unit in plan.units if unit in full]
    roots = {unit.name.split(".")[0] for unit in full if unit.stage == "head" and unit.layers}
    replaced = {name for name in state if name.split(".")[0] in roots} - set(tensors(shared))
    kept = {name: value for name, value in state.items() if name not in replaced}
    check_state(kept, shared)
    new = [unit for unit in plan.units if unit not in full]
    return {**kept, **start(new, plan.seed or 0)}
