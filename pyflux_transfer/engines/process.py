"""What has computed in one process cannot go on in a fork of it, and moves to others as plain data.

A fork copies the memory and one thread: PyTorch's other threads and Julia's are gone in the child,
which would wait for them for ever.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from pyflux_transfer.errors import EngineError

if TYPE_CHECKING:
    from pyflux_transfer.engines.base import Network, Plan
    from pyflux_transfer.networks.tensors import State

_computing: dict[str, int] = {}  # module of the engine → the process that computed with it first


def claim(module: str) -> None:
    """Note that this process computes with an engine's module.

    Raises EngineError in a fork of a process that has done so.
    """
    if _computing.setdefault(module, os.getpid()) != os.getpid():
        raise EngineError(
            "This process is a fork of one that has computed already; the threads that compute did "
            "not come along. Start processes by multiprocessing.get_context('spawn'), or load the "
            "network in the child alone."
        )


def rebuilt(module: str, plan: Plan, state: State, cut: int) -> Network:
    """Return a network as pickle and deep copies make it: the same weights, no optimizer state."""
    network: Network = import_module(module).build(plan)
    network.load_state(state)
    network.cut_at(cut)
    return network
