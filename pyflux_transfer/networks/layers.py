"""The layers of a network by torchvision's names, with what they hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.networks.tensors import Shape, State
from pyflux_transfer.networks.units import Unit


class Holder(Protocol):
    """What a layer needs of its network: the units, and their tensors."""

    units: Sequence[Unit]
    cut: int

    def state(self, start: int = 0) -> State:
        """Return copies of the tensors of units[start:]."""


@dataclass(frozen=True)
class NamedLayer:
    """A layer of a network, or a unit of several: its name, kind, tensors and place.

    `index` is the number of its unit, `shape` that of its weight, None without one.
    """

    name: str
    kind: str
    index: int
    shape: Shape | None
    shapes: Mapping[str, Shape]  # of the tensors, by torchvision's names
    network: Holder = field(repr=False)

    @property
    def parameters(self) -> int:
        """Count of trainable numbers."""
        return sum(math.prod(s) for n, s in self.shapes.items() if ".running_" not in n)

    @property
    def trained(self) -> bool:
        """Tell whether it has parameters that the present cut trains."""
        return self.parameters > 0 and self.index >= self.network.cut

    @property
    def tensors(self) -> State:
        """Copies of its tensors, by torchvision's names."""
        state = self.network.state(self.index)
        return {name: state[name].copy() for name in self.shapes}


class Layers(Mapping[str, NamedLayer]):
    """The layers of a network in order, by torchvision's names; units of several count too."""

    def __init__(self, network: Holder) -> None:
        self._network = network

    def __getitem__(self, name: str) -> NamedLayer:
        """Return a layer; raise InputError with the nearest name otherwise."""
        inside = [known for known in self._rows if known.startswith(f"{name}.")]
        if inside and name not in self._rows:
            raise InputError(f"'{name}' is several layers. Name one: {', '.join(inside)}.")
        return lookup(self._rows, name, "layer", see="print(net) shows all.")

    def get(self, name: str, default: Any = None) -> Any:
        """Return a layer, or the default where there is none of this name."""
        return self._rows.get(name, default)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a layer of this name."""
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        """Yield the names, in order."""
        return iter(self._rows)

    def __len__(self) -> int:
        """Count the names."""
        return len(self._rows)

    @cached_property
    def _rows(self) -> dict[str, NamedLayer]:
        rows: dict[str, NamedLayer] = {}
        for index, unit in enumerate(self._network.units):
            shape = unit.layers[0].shape if len(unit.layers) == 1 else None
            rows[unit.name] = NamedLayer(
                unit.name, unit.kind, index, shape, unit.tensors, self._network
            )
            for layer in unit.layers:  # one of its unit's name is what the name means
                rows[layer.name] = NamedLayer(
                    layer.name, layer.op, index, layer.shape, layer.tensors, self._network
                )
        return rows
