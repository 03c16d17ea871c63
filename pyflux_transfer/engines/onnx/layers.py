"""The operations that unit kinds and trees share, as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pyflux_transfer.engines.onnx.graph import Anything, Graph
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import Layer

Pads = tuple[int, int, int, int]  # above, left, below, right


class Writer(Graph):
    """A graph, and the tensors that its layers take.

    A norm behind a convolution is folded into it. With `folds=False` that is left to who runs the
    graph, which then needs no weights but `tensors`.
    """

    def __init__(self, tensors: Mapping[str, Array], *, folds: bool = True) -> None:
        super().__init__()
        self.tensors, self.folds = tensors, folds

    def conv(
        self, x: str, layer: Layer, stride: int, pads: Pads,
        channels: int, norm: Layer | None = None, eps: float = 0.0,
    ) -> str:  # fmt: skip
        """Convolve images of so many channels, and norm them."""
        if norm is not None and not self.folds:
            return self.norm(self.conv(x, layer, stride, pads, channels), norm, eps)
        weight: Anything
        bias: Anything | None
        weight, bias = self._weights(layer)
        if norm is not None:
            factor, shift = self._affine(norm, eps)
            weight = weight * factor[:, None, None, None]
            bias = shift if bias is None else shift + factor * bias
        inputs = [x, self.constant(weight, name=f"{layer.name}{layer.joint}weight")]
        if bias is not None:
            inputs.append(self.constant(bias, name=f"{layer.name}{layer.joint}bias"))
        return self.node(
            "Conv", *inputs, kernel_shape=weight.shape[2:], strides=(stride, stride), pads=pads,
            group=channels // weight.shape[1],
        )  # fmt: skip

    def dense(self, x: str, layer: Layer, axes: int) -> str:
        """Affine layer over the channels of vectors (2 axes), tokens (3) or images (4)."""
        weight, bias = self._weights(layer)
        name = f"{layer.name}{layer.joint}"
        held = self.constant(bias, name=f"{name}bias") if bias is not None else ""
        if axes == 2:
            inputs = [x, self.constant(weight, name=f"{name}weight"), *filter(None, [held])]
            return self.node("Gemm", *inputs, transB=1)
        if axes == 4:
            x = self.node("Transpose", x, perm=(0, 2, 3, 1))
        x = self.node("MatMul", x, self.constant(weight.T, name=f"{name}weight"))
        x = self.node("Add", x, held) if held else x
        return self.node("Transpose", x, perm=(0, 3, 1, 2)) if axes == 4 else x

    def norm(self, x: str, layer: Layer, eps: float) -> str:
        """BatchNorm by the kept statistics, where no convolution stands before it."""
        leaves = ("weight", "bias", "running_mean", "running_var")
        names = [f"{layer.name}.{leaf}" for leaf in leaves]
        held = [self.constant(self.tensors[name], name=name) for name in names]
        return self.node("BatchNormalization", x, *held, epsilon=eps)

    def layernorm(self, x: str, layer: Layer, eps: float, axes: int) -> str:
        """LayerNorm over the channels of tokens and vectors, or of images at each place."""
        held = [self.constant(self.tensors[name], name=name) for name in layer.tensors]
        if axes != 4:
            return self.node("LayerNormalization", x, *held, axis=-1, epsilon=eps)
        x = self.node("Transpose", x, perm=(0, 2, 3, 1))
        x = self.node("LayerNormalization", x, *held, axis=-1, epsilon=eps)
        return self.node("Transpose", x, perm=(0, 3, 1, 2))

    def maxpool(self, x: str, kernel: int, stride: int, pads: Pads) -> str:
        """Max pooling."""
        return self.node(
            "MaxPool", x, kernel_shape=(kernel,) * 2, strides=(stride,) * 2, pads=pads
        )  # fmt: skip

    def act(self, x: str, function: str) -> str:
        """One of `tree.ACTIVATIONS`, or "none"."""
        return _ACTIVATIONS[function](self, x)

    def _weights(self, layer: Layer) -> tuple[Array, Array | None]:
        name = f"{layer.name}{layer.joint}"
        return self.tensors[f"{name}weight"], self.tensors[f"{name}bias"] if layer.bias else None

    def _affine(self, norm: Layer, eps: float) -> tuple[Anything, Anything]:
        """Return what a BatchNorm multiplies by and adds, in float64: the products round once."""
        leaves = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, var = (
            self.tensors[f"{norm.name}.{leaf}"].astype(np.float64) for leaf in leaves
        )
        factor = weight / np.sqrt(var + eps)
        return factor, bias - mean * factor


def same_pads(sides: Sequence[int], kernel: int, stride: int) -> Pads:
    """TensorFlow's SAME padding: the odd pixel goes behind."""
    totals = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in sides]
    above, left = (total // 2 for total in totals)
    return above, left, totals[0] - above, totals[1] - left


def pool_pads(
    before: Sequence[int], after: Sequence[int], kernel: int, stride: int, padding: int
) -> Pads:
    """Return pads with which a window that hangs over the border (`ceil`) has its place.

    ONNX has a mode for it, on which runtimes differ.
    """
    hangs = [
        max((count - 1) * stride + kernel - side - 2 * padding, 0)
        for side, count in zip(before, after, strict=True)
    ]
    return padding, padding, padding + hangs[0], padding + hangs[1]


def _gelu(graph: Graph, x: str) -> str:
    """Hendrycks & Gimpel 2016, exact: x/2 · (1 + erf(x/√2)). ONNX has it from opset 20 on."""
    inner = graph.node("Erf", graph.node("Div", x, graph.constant(math.sqrt(2))))
    both = graph.node("Mul", x, graph.node("Add", inner, graph.constant(1)))
    return graph.node("Mul", both, graph.constant(0.5))


_ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "none": lambda _, x: x,
    "relu": lambda g, x: g.node("Relu", x),
    "relu6": lambda g, x: g.node("Clip", x, g.constant(0), g.constant(6)),
    "gelu": _gelu,
    "tanh": lambda g, x: g.node("Tanh", x),
    "silu": lambda g, x: g.node("Mul", x, g.node("Sigmoid", x)),
    "sigmoid": lambda g, x: g.node("Sigmoid", x),
    "hardswish": lambda g, x: g.node("HardSwish", x),
    "hardsigmoid": lambda g, x: g.node("HardSigmoid", x, alpha=1 / 6, beta=0.5),
}
