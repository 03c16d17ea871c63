"""How given weights fit a network with another head."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.networks.start import start
from pyflux_transfer.networks.tensors import State, check_state
from pyflux_transfer.networks.units import Unit, tensors


def fitted(state: State, full: Sequence[Unit], units: Sequence[Unit], seed: int = 0) -> State:
    """Return weights for all of `units`, given those of the architecture's `full` units.

    What both share must be there, complete and of the right shape. The classifier's tensors are
    left out where `units` have another head, which begins at random with `seed`. Raises
    WeightsError with the tensor that does not fit.
    """
    given = {name: value.shape for name, value in state.items()}
    if tuple(units) == tuple(full) or given == tensors(units):
        check_state(state, units)
        return state
    shared = [unit for unit in units if unit in full]
    roots = {unit.name.split(".")[0] for unit in full if unit.stage == "head" and unit.layers}
    replaced = {name for name in state if name.split(".")[0] in roots} - set(tensors(shared))
    kept = {name: value for name, value in state.items() if name not in replaced}
    check_state(kept, shared)
    return {**kept, **start([unit for unit in units if unit not in full], seed)}
