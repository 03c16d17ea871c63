"""A step: the unit of work that a runner computes at its best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.networks.positions import resampling
from pyflux_transfer.networks.units import Layer

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
}


@dataclass(frozen=True)
class Step:
    """A convolution or dense layer, the BatchNorm and the scale behind it, and an activation."""

    layer: Layer
    norm: Layer | None
    stride: int
    padding: int | str | tuple[int, int]  # "same" is TensorFlow's
    activation: str
    eps: float
    scale: Layer | None = None

    @property
    def weight(self) -> str:
        """Name of the weight."""
        return f"{self.layer.name}{self.layer.joint}weight"

    @property
    def bias(self) -> str | None:
        """Name of the bias, where there is one."""
        return f"{self.layer.name}{self.layer.joint}bias" if self.layer.bias else None


@dataclass(frozen=True)
class Positions:
    """Learnt positions, the token's and those of a square grid, and how they serve another one."""

    name: str
    side: int
    offset: float
    aligned: bool


def interpolated(positions: Positions, learnt: Tensor, high: int, wide: int) -> Tensor:
    """Return the grid's part of `learnt` (1, 1 + side², D) for a grid: (1, high · wide, D)."""
    side, places = positions.side, learnt[:, 1:]
    if (high, wide) == (side, side):
        return places
    how = positions.offset, positions.aligned
    rows, columns = (_resampling(side, n, *how).to(learnt.device) for n in (high, wide))
    grid = places.reshape(side, side, -1)
    return torch.einsum("hr,wc,rcd->hwd", rows, columns, grid).reshape(1, high * wide, -1)


@cache
def _resampling(side: int, count: int, offset: float, aligned: bool) -> Tensor:
    return torch.from_numpy(resampling(side, count, offset=offset, aligned=aligned))


class Runner(Protocol):
    """Executes the steps of a unit."""

    tensors: Mapping[str, Tensor]

    def step(self, step: Step, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Run the layer, its norm and its scale, add `add`, then the activation.

        A dense layer works on the channels of images, of tokens, or on vectors.
        """

    def norm(self, norm: Layer, x: Tensor, eps: float, activation: str = "none") -> Tensor:
        """Run a BatchNorm that no convolution stands before, then the activation."""

    def layernorm(self, norm: Layer, x: Tensor, eps: float) -> Tensor:
        """Run a LayerNorm over the last axis."""

    def positions(self, node: Positions, high: int, wide: int) -> Tensor:
        """Return the learnt positions of a grid: (1, high · wide, D)."""

    def attend(self, x: Tensor, heads: int) -> Tensor:
        """Let queries, keys and values (N, T, 3·D) give (N, T, D)."""

    def drop(self, x: Tensor, p: float) -> Tensor:
        """Drop a share `p` of the values, in training."""

    def mean(self, x: Tensor) -> Tensor:
        """Return the means (N, C, 1, 1) of the images' axes, in float32."""
