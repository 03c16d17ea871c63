"""Nodes that several families are made of."""

from __future__ import annotations

from pyflux_transfer.networks.tree import IDENTITY, Node, act, chain, mean, multiply
from pyflux_transfer.networks.tree import conv as convolve
from pyflux_transfer.networks.tree import norm as normalise


def normed(
    name: str,
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int | tuple[int, int] | None = None,
    groups: int = 1,
    activation: str | None = "relu",
    eps: float = 1e-5,
    momentum: float = 0.1,
    leaves: tuple[str, str] = ("0", "1"),
) -> Node:
    """Convolution, BatchNorm, activation; `leaves` name the two below `name`.

    Without `padding` the sizes stay as they are, or are divided by the stride and rounded up.
    """
    if padding is None:
        padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    conv, norm = leaves
    return chain(
        convolve(f"{name}.{conv}", inputs, outputs, kernel, stride=stride, padding=padding,
                 groups=groups),
        normalise(f"{name}.{norm}", outputs, eps, momentum),
        *([act(activation)] if activation else []),
    )  # fmt: skip


def excited(name: str, channels: int, squeezed: int, activation: str, gate: str) -> Node:
    """Squeeze and excitation (Hu et al. 2018): channels weighed by what all places hold."""
    weighing = chain(
        mean(),
        convolve(f"{name}.fc1", channels, squeezed, 1, bias=True),
        act(activation),
        convolve(f"{name}.fc2", squeezed, channels, 1, bias=True),
        act(gate),
    )
    return multiply(IDENTITY, weighing)


def divisible(wanted: float) -> int:
    """Round to a multiple of eight, never below nine tenths (torchvision's `_make_divisible`)."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
