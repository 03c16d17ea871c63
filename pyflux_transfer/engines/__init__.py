"""Engines by name. Importing this package starts no framework."""

from __future__ import annotations

from importlib import import_module

from pyflux_transfer.engines.base import Network, Plan, State
from pyflux_transfer.errors import lookup

# name → module with `build(plan)`, `pretrained(architecture)` and `readiness()`
ENGINES = {
    "flux": "pyflux_transfer.engines.flux",
    "torch": "pyflux_transfer.engines.torch",
}


def build(engine: str, plan: Plan) -> Network:
    """Build a network with seeded random weights.

    Raises EngineError where the engine cannot start, with what is missing and the remedy.
    """
    network: Network = import_module(lookup(ENGINES, engine, "engine")).build(plan)
    return network


def pretrained(engine: str, architecture: str) -> State:
    """Return the published ImageNet weights by torchvision's names.

    Raises WeightsError where none are published or they cannot be had.
    """
    state: State = import_module(lookup(ENGINES, engine, "engine")).pretrained(architecture)
    return state


def choose(engine: str) -> tuple[str, str]:
    """Return the engine to use and one line saying why; "auto" takes flux when it is ready."""
    if engine != "auto":
        lookup(ENGINES, engine, "engine")
        return engine, f"engine: {engine} (asked for)"
    missing = import_module(ENGINES["flux"]).readiness()
    if missing is None:
        return "flux", "engine: flux (the Julia environment is ready)"
    return "torch", f"engine: torch ({missing})"
