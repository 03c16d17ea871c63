"""Engines by name. Importing this package starts no framework."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from pyflux_transfer.engines import files
from pyflux_transfer.engines.base import Network, Plan
from pyflux_transfer.errors import lookup
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
}


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


def choose(engine: str) -> tuple[str, str]:
    """Return the engine to use and one line saying why; "auto" takes flux when it is ready."""
    if engine != "auto":
        lookup(ENGINES, engine, "engine")
        return engine, f"engine: {engine} (asked for)"
    missing: str | None = _module("flux").readiness()
    if missing is None:
        return "flux", "engine: flux (the Julia environment is ready)"
    return "torch", f"engine: torch ({missing})"


def _module(engine: str) -> Any:
    return import_module(lookup(ENGINES, engine, "engine"))
