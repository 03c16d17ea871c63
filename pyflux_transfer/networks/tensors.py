"""A network's weights by torchvision's names, and the check that they are complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.errors import WeightsError
from pyflux_transfer.networks.units import Unit, tensors

Array = NDArray[np.float32]
State = dict[str, Array]
Shape = tuple[int, ...]


def check_finite(state: Mapping[str, Array], what: str = "Weights") -> None:
    """Refuse tensors with values that are no numbers; name the first."""
    for name, value in state.items():
        # The ends of the range tell: NaN is handed on by both.
        if value.size and not (np.isfinite(value.min()) and np.isfinite(value.max())):
            raise WeightsError(
                f"{what}: '{name}' holds NaN or infinite values, so no prediction would mean "
                "anything. Take an earlier checkpoint."
            )


def check_state(state: Mapping[str, Any], units: Sequence[Unit]) -> None:
    """Refuse tensors that are not exactly those of the units; name the first that fails."""
    wanted = tensors(units)
    if missing := [name for name in wanted if name not in state]:
        raise WeightsError(
            f"Weights lack {len(missing)} of {len(wanted)} tensors, the first is '{missing[0]}'. "
            "They belong to another architecture or head."
        )
    if extra := [name for name in state if name not in wanted]:
        raise WeightsError(
            f"Weights hold {len(extra)} tensors too many, the first is '{extra[0]}'. "
            "They belong to another architecture or head."
        )
    for name, shape in wanted.items():
        if tuple(state[name].shape) != shape:
            raise WeightsError(
                f"Weights: '{name}' must have shape {shape}, got {tuple(state[name].shape)}."
            )
