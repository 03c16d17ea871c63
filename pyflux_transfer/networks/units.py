"""The networks as data: what each unit is made of, in torchvision's names.

A unit is one indivisible step of a network. Both engines build from these descriptions, so the
facts of an architecture (widths, strides, names, parameter counts) are written once, here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pyflux_transfer.errors import InputError, lookup

if TYPE_CHECKING:
    from pyflux_transfer.networks.tree import Node

Option = int | float | str | bool
Op = Literal["conv", "norm", "dense", "layernorm", "scale", "token", "array"]


@dataclass(frozen=True)
class Layer:
    """A parameterised leaf: torchvision's name, what it is, and the shape of its weight.

    `joint` stands between the name and "weight" or "bias". A scale, a token and an array of a layer
    of one's own are one tensor, which has the layer's name itself. `momentum` is the weight of a
    new batch in the statistics of a BatchNorm.
    """

    name: str
    op: Op
    shape: tuple[int, ...]  # conv (out, in / groups, k, k); dense (out, in); norms (channels,)
    bias: bool
    joint: str = "."
    momentum: float = field(default=0.1, repr=False)  # kept features, named by this, are alike

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors, BatchNorm statistics included."""
        if self.op in ("scale", "token", "array"):
            return {self.name: self.shape}
        channels = self.shape[:1]
        named = {f"{self.name}{self.joint}weight": self.shape}
        if self.bias:
            named[f"{self.name}{self.joint}bias"] = channels
        if self.op == "norm":
            named[f"{self.name}.running_mean"] = channels
            named[f"{self.name}.running_var"] = channels
        return named


@dataclass(frozen=True)
class Unit:
    """One step of a network's chain.

    `kind` says how it is computed (conv, maxpool, avgpool, flatten, dropout, dense, basic,
    bottleneck, fire, inverted, block, own), `options` with which numbers, `layers` which parameters
    it holds: in order of computation, a residual block's shortcut last. A block's `body` is a tree
    of operations.
    """

    name: str
    kind: str
    stage: str
    options: dict[str, Option] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    body: Node | None = None

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors, in order."""
        return {name: shape for layer in self.layers for name, shape in layer.tensors.items()}

    @property
    def parameters(self) -> int:
        """Count of trainable numbers."""
        return sum(math.prod(s) for n, s in self.tensors.items() if ".running_" not in n)

    @property
    def statistics(self) -> int:
        """Count of BatchNorm statistics, which are no parameters."""
        return sum(math.prod(s) for n, s in self.tensors.items() if ".running_" in n)


def stages(units: Iterable[Unit]) -> tuple[str, ...]:
    """Stage names in order."""
    return tuple(dict.fromkeys(unit.stage for unit in units))


def tensors(units: Iterable[Unit]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of the units, in order."""
    return {name: shape for unit in units for name, shape in unit.tensors.items()}


# Kinds without parameters that compute the same in training and evaluation.
_FIXED = ("maxpool", "avgpool", "flatten")


def resolve_cut(units: Sequence[Unit], cut: int | str) -> int:
    """Return the unit index of a cut given as index or stage name.

    A stage name means its first unit that training can change: pooling and flattening before it
    belong to the trunk, which makes the cached features of a head small.
    """
    if isinstance(cut, int):
        if not 0 <= cut < len(units):
            raise InputError(
                f"The cut must be from 0 to {len(units) - 1}, got {cut}. See summary()."
            )
        return cut
    lookup(dict.fromkeys(stages(units)), cut, "stage")
    index = next(i for i, unit in enumerate(units) if unit.stage == cut)
    while units[index].kind in _FIXED:
        index += 1
    return index
