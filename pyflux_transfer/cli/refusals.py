"""What `train` refuses before it downloads, reads or computes anything.

The library refuses the same, but where it meets it, which can be after minutes.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from pyflux_transfer.cli.options import cut as place
from pyflux_transfer.errors import InputError

if TYPE_CHECKING:
    from pyflux_transfer.networks.head import Head

STEPS = {"cut", "epochs", "lr", "fine_tune"}


def refuse_effort(given: Set[str], quality: str, minutes: float | None) -> None:
    """Refuse an unknown quality, and one beside steps of one's own."""
    from pyflux_transfer.training.options import Options
    from pyflux_transfer.training.recipe import HEEDED, Effort

    Effort.of(quality, minutes)
    steps = given & (STEPS | set(Options.__dataclass_fields__) - HEEDED)
    if steps and given & {"quality", "minutes"}:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(steps))
        raise InputError(
            "--quality and --minutes belong to the recipe, which chooses all steps itself. Leave "
            f"them out, or {named}."
        )


def refuse_steps(
    arch: str, head: Head, cut: str | None, epochs: int, lr: float | None, depth: int
) -> None:
    """Refuse a head, a cut, a rate or a depth that an architecture cannot have."""
    from pyflux_transfer.networks.catalog import MODELS
    from pyflux_transfer.networks.head import with_head
    from pyflux_transfer.networks.units import resolve_cut
    from pyflux_transfer.training.plan import Phase, gradual

    phase = Phase(0, epochs, 1.0 if lr is None else lr)
    if arch not in MODELS:  # a bundle, or auto; another name is refused when it is loaded
        return
    units = with_head(MODELS[arch].units, head)
    if cut is not None:
        resolve_cut(units, place(cut))
    if depth:
        gradual(units, 1, epochs, phase.lr, phase.lr, depth)
