"""Phases: which part of the network trains, for how long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.numbers import plain
from pyflux_transfer.networks.units import Unit, resolve_cut, stages


@dataclass(frozen=True)
class Phase:
    """One stretch of training: everything from unit `cut` on, for `epochs` epochs."""

    cut: int
    epochs: int
    lr: float

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, plain(getattr(self, name)))
        if not isinstance(self.epochs, int) or self.epochs < 1:
            raise InputError(f"epochs must be a whole number of at least 1, got {self.epochs!r}.")
        if isinstance(self.lr, str) or not 0 < self.lr < math.inf:
            raise InputError(f"The learning rate must be positive, got {self.lr!r}.")


def gradual(
    units: Sequence[Unit], freeze_epochs: int, epochs: int, lr: float, fine_lr: float, depth: int
) -> tuple[Phase, ...]:
    """Return the phases of gradual unfreezing (Howard & Ruder 2018).

    The head alone for `freeze_epochs`, then `epochs` shared among the last stage, the last two, …
    the last `depth`; a deeper phase never has fewer epochs than the one before it.
    """
    if freeze_epochs < 0 or epochs < 1:
        raise InputError(
            "freeze_epochs must be at least 0 and epochs at least 1, "
            f"got {freeze_epochs} and {epochs}."
        )
    body = [stage for stage in stages(units) if stage != "head"]
    if not 1 <= depth <= len(body):
        raise InputError(f"depth must be from 1 to {len(body)}, got {depth}.")
    depth = min(depth, epochs)
    shares = [(epochs + i) // depth for i in range(depth)]
    deeper = [
        Phase(resolve_cut(units, body[-1 - i]), share, fine_lr) for i, share in enumerate(shares)
    ]
    first = [Phase(resolve_cut(units, "head"), freeze_epochs, lr)] if freeze_epochs else []
    return (*first, *deeper)
