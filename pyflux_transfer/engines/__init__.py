"""Engines by name. Importing this package starts no framework."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pyflux_transfer.engines import files
from pyflux_transfer.engines.base import Network, Plan
from pyflux_transfer.errors import EngineError, lookup
from pyflux_transfer.networks.catalog import Architecture
from pyflux_transfer.networks.tensors import State, check_state
from pyflux_transfer.networks.units import Unit
from pyflux_transfer.networks.weights import published
from pyflux_transfer.networks.weights.names import as_torchvision
from pyflux_transfer.networks.weights.transformers import transformers

# name → module with `build(plan)`, `readiness()`, `artifact(architecture)`, `own(name, side)`
ENGINES = {
    "flux": "pyflux_transfer.engines.flux.network",
    "torch": "pyflux_transfer.engines.torch.network",
    "onnx": "pyflux_transfer.engines.onnx.network",
}
# engine → the packages that it imports; what installs them is called like the engine
PACKAGES = {"torch": ("torch",), "onnx": ("onnxruntime", "onnx")}
EVALUATING = ("onnx",)  # engines that do not train


def build(engine: str, plan: Plan) -> Network:
    """Build a network with seeded random weights.

    Raises EngineError where the engine cannot start, with what is missing and the remedy.
    """
    network: Network = _module(engine).build(plan)
    return network


def pretrained(engine: str, row: Architecture, tag: str = "imagenet") -> State:
    """Return published weights of an architecture by torchvision's names, headless ones as such.

    A file on this machine is taken first, then the engine's own source of this very tag, then a
    download. Raises InputError for an unknown tag, WeightsError where they cannot be had.
    """
    weights = row.tagged(tag)
    path = published.local(weights)
    if path is None and weights.artifact:
        state: State | None = _module(engine).artifact(row)
        if state is not None:
            return state
    found = files.read(path or published.download(weights, row.name), published=True)
    state = transformers(as_torchvision(found, row.units), row.units)
    check_state(state, _without_head(row.units) if weights.headless else row.units)
    return state


def _without_head(units: Sequence[Unit]) -> list[Unit]:
    return [unit for unit in units if unit.stage != "head"]


def own(engine: str, name: str, side: int) -> tuple[Architecture, State]:
    """Return the row of a network of one's own, by its name in Julia, and its weights.

    Raises EngineError where the engine does not run Julia's layers.
    """
    found: tuple[Architecture, State] = _module(engine).own(name, side)
    return found


def missing(engine: str) -> str | None:
    """Return None when an engine can start, else one line: what is missing and the remedy."""
    lookup(ENGINES, engine, "engine")
    for package in PACKAGES.get(engine, ()):
        if find_spec(package) is None:
            return f"{package} is not installed. Run: pip install 'pyflux-transfer[{engine}]'"
    if engine in PACKAGES:
        return None
    found: str | None = _module(engine).readiness()
    return found


def choose(engine: str) -> tuple[str, str]:
    """Return the engine to use and one line saying why.

    "auto" takes flux when it is ready, else torch, and where neither is there what evaluates only.
    """
    if engine != "auto":
        lookup(ENGINES, engine, "engine")
        return engine, f"engine: {engine} (asked for)"
    no_julia = missing("flux")
    if no_julia is None:
        return "flux", "engine: flux (the Julia environment is ready)"
    no_torch = missing("torch")
    if no_torch and missing("onnx") is None:
        return "onnx", f"engine: onnx (it evaluates only, but {no_torch})"
    return "torch", f"engine: torch ({no_julia})"


def refuse_evaluating(engine: str) -> None:
    """Raise EngineError for an engine that does not train."""
    if engine in EVALUATING:
        raise EngineError(
            f"The {engine} engine evaluates only. To train, use engine='torch' or engine='flux'; "
            "where PyTorch is missing: pip install 'pyflux-transfer[torch]'"
        )


def _module(engine: str) -> Any:
    module = lookup(ENGINES, engine, "engine")
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES.get(engine, ()):
            raise
        raise EngineError(f"engine='{engine}' cannot start: {missing(engine)}") from None
