"""Slices of a network's chain, by unit index or stage name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import Unit, stages


class Chain(Protocol):
    """What a slice needs of a network: its units, and a way to run some of them."""

    units: Sequence[Unit]

    def apply(self, x: Array, start: int, stop: int) -> Array:
        """Run units[start:stop] in evaluation mode."""


@dataclass(frozen=True)
class Slice:
    """Some consecutive units of a network, callable in evaluation mode."""

    network: Chain
    start: int
    stop: int

    @property
    def units(self) -> Sequence[Unit]:
        """The units of the slice."""
        return self.network.units[self.start : self.stop]

    def __len__(self) -> int:
        """Count the units."""
        return self.stop - self.start

    def __call__(self, x: Array) -> Array:
        """Run the units on x, float32 with a batch axis: images (N,3,H,W) for the first units."""
        return self.network.apply(x, self.start, self.stop)


def chain_slice(network: Chain, key: int | str | slice) -> Slice:
    """Return the slice of a chain that `key` means: a unit, a stage, or from one to before another.

    At the edge of a slice a stage's name stands for its first unit. Raises IndexError for an index
    outside, InputError for an unknown stage and for a slice of no unit.
    """
    units = network.units
    if isinstance(key, int):
        index = range(len(units))[key]
        return Slice(network, index, index + 1)
    if isinstance(key, str):
        begin = _first(units, key)
        return Slice(network, begin, begin + sum(unit.stage == key for unit in units))
    if key.step not in (None, 1):
        raise InputError(f"A slice of the chain has no step, got {key.step}.")
    begin, end, _ = slice(_edge(units, key.start), _edge(units, key.stop)).indices(len(units))
    if begin >= end:
        raise InputError(f"The slice {key.start!r}:{key.stop!r} holds no unit. See summary().")
    return Slice(network, begin, end)


def _edge(units: Sequence[Unit], edge: int | str | None) -> int | None:
    return _first(units, edge) if isinstance(edge, str) else edge


def _first(units: Sequence[Unit], stage: str) -> int:
    lookup(dict.fromkeys(stages(units)), stage, "stage")
    return next(i for i, unit in enumerate(units) if unit.stage == stage)
