"""Slices of a network's chain, by unit index, stage name or torchvision's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.networks.listing import listing
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import Unit, stages


class Chain(Protocol):
    """What a slice needs of a network: its units, and a way to run some of them."""

    units: Sequence[Unit]
    cut: int

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
        """Run the units on x (N,…), of floats: images (N,3,H,W) for the first units.

        Returns a new float32 array. Raises InputError for what the units cannot take.
        """
        return run(self.network, x, self.start, self.stop)

    def __getitem__(self, key: int | str | slice) -> Slice:
        """Slice the slice, whose units are numbered from 0 again."""
        part = span(self.units, key)
        return Slice(self.network, self.start + part.start, self.start + part.stop)

    def __repr__(self) -> str:
        """Show the units, layer by layer, with the numbers they have in the network."""
        lines = listing(self.units, self.start, self.network.cut)
        return "\n".join([f"Slice: units {self.start} to {self.stop - 1}", *lines])


def run(network: Chain, x: Array, start: int, stop: int) -> Array:
    """Run units[start:stop] on an array as NumPy's functions return it; the result is a new one."""
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        x = np.ascontiguousarray(x, np.float32)
    result = network.apply(x, start, stop)
    return result.copy() if np.may_share_memory(result, x) else result


def chain_slice(network: Chain, key: int | str | slice) -> Slice:
    """Return the slice of a chain that `key` means: see `span`."""
    part = span(network.units, key)
    return Slice(network, part.start, part.stop)


def span(units: Sequence[Unit], key: int | str | slice) -> range:
    """Return the units that `key` means: one, those of a name, or from one to before another.

    A name is a stage's, or what torchvision calls a unit or a run of units ("layer4"). At the edge
    of a slice it stands for its first unit. Raises IndexError for an index outside, InputError for
    an unknown name and for a slice of no unit.
    """
    if isinstance(key, int):
        index = range(len(units))[key]
        return range(index, index + 1)
    if isinstance(key, str):
        return _named(units, key)
    if key.step not in (None, 1):
        raise InputError(f"A slice of the chain has no step, got {key.step}.")
    begin, end, _ = slice(_edge(units, key.start), _edge(units, key.stop)).indices(len(units))
    if begin >= end:
        raise InputError(f"The slice {key.start!r}:{key.stop!r} holds no unit. See summary().")
    return range(begin, end)


def _edge(units: Sequence[Unit], edge: int | str | None) -> int | None:
    return _named(units, edge).start if isinstance(edge, str) else edge


def _named(units: Sequence[Unit], name: str) -> range:
    """Return the units of a stage, or those that torchvision has under a name."""
    known = stages(units)
    found = [
        index
        for index, unit in enumerate(units)
        if (unit.stage == name if name in known else f"{unit.name}.".startswith(f"{name}."))
    ]
    if found:
        return range(found[0], found[-1] + 1)
    for unit in units:
        if name in [layer.name for layer in unit.layers]:
            raise InputError(
                f"'{name}' lies inside the unit '{unit.name}', which is not divided. "
                f"Slice that, or look at the layer: net.layers[{name!r}]."
            )
    lookup(dict.fromkeys([*known, *(unit.name for unit in units)]), name, "stage or unit",
           see="See summary().")  # fmt: skip
    raise AssertionError
