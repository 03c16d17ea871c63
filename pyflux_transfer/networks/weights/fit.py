"""How given weights fit a network with another head."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.errors import WeightsError
from pyflux_transfer.networks.start import start
from pyflux_transfer.networks.tensors import State, check_state
from pyflux_transfer.networks.units import Unit, tensors
from pyflux_transfer.networks.weights.names import as_torchvision
from pyflux_transfer.networks.weights.transformers import transformers

# What wrappers put before every name: DataParallel, torch.compile, Lightning, detectors.
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.", "network.", "encoder.")


def unwrapped(state: State) -> State:
    """Return tensors without the prefixes that all of their names share."""
    while prefix := next((p for p in _PREFIXES if _shared(state, p)), ""):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _shared(state: State, prefix: str) -> bool:
    return bool(state) and all(name.startswith(prefix) for name in state)


def fitted(state: State, units: Sequence[Unit], seed: int = 0) -> tuple[State, bool]:
    """Return weights for all of `units`, and whether their head begins at random.

    It does where the given weights have none, or another: for other classes than the units'. Raises
    WeightsError where what comes before the head does not fit.
    """
    state = transformers(as_torchvision(state, units), units)
    try:
        check_state(state, units)
    except WeightsError:
        head = [unit for unit in units if unit.stage == "head"]
        body = [unit for unit in units if unit.stage != "head"]
        names = set(tensors(body))
        kept = {name: v for name, v in state.items() if name in names or not _of_head(name, head)}
        check_state(kept, body)
        return {**kept, **start(head, seed)}, True
    return state, False


def _of_head(name: str, head: Sequence[Unit]) -> bool:
    roots = {unit.name.split(".")[0] for unit in head if unit.layers}
    return name.split(".")[0] in roots | {"head", "fc", "classifier"}
