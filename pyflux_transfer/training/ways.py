"""The ways deeper that the recipe tries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyflux_transfer.networks.units import Unit, stages


@dataclass(frozen=True)
class Way:
    """One way of training deeper: the part of the body's stages that trains, and how."""

    part: float
    lr: float
    augment: str = "none"
    times: int = 1  # as long as ways usually take

    def stage(self, units: Sequence[Unit]) -> str:
        """Return the first stage that trains."""
        body = [stage for stage in stages(units) if stage != "head"]
        return body[-max(int(self.part * len(body)), 1)]

    @property
    def kept(self) -> tuple[float, ...]:
        """How far to go from the start to the end: half, or all; augmented views need it all."""
        return (0.5, 1.0) if self.augment == "none" else (1.0,)

    def name(self, units: Sequence[Unit]) -> str:
        """Return how it is called in what is said."""
        augment = "" if self.augment == "none" else f", {self.augment}"
        longer = "" if self.times == 1 else f", {self.times} times as long"
        return f"from {self.stage(units)}{augment}{longer}"


_GOOD = (Way(1 / 4, 3e-4), Way(1 / 2, 6e-4, "crop"))
# What is tried, from cheap to dear; the head alone is always candidate number zero.
QUALITIES: dict[str, tuple[Way, ...]] = {
    "head": (),
    "good": _GOOD,
    "best": (*_GOOD, Way(1 / 2, 3e-4), Way(1 / 2, 6e-4, "light"), Way(3 / 4, 6e-4, "crop")),
}
