"""One convolution of evaluation: what decides its kernel, and the kernel with its weight packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.engines.torch.steps import ACTIVATIONS

Convolution = Callable[[Tensor, Tensor | None], Tensor]
Sides = tuple[int, int]  # of the two axes of an image

# oneDNN's names for activations that it computes while a result is still in the cache, with their
# numbers and their kind; behind a sum it knows but the first two.
_FUSED: dict[str, tuple[str, list[float], str]] = {
    "none": ("none", [], ""),
    "relu": ("relu", [], ""),
    "relu6": ("hardtanh", [0.0, 6.0], ""),
    "tanh": ("tanh", [], ""),
    "sigmoid": ("sigmoid", [], ""),
    "silu": ("swish", [], ""),
    "hardswish": ("hardswish", [], ""),
    "hardsigmoid": ("hardsigmoid", [], ""),
    "gelu": ("gelu", [], "none"),
}
_AFTER_SUM = ("none", "relu")


@dataclass(frozen=True)
class Geometry:
    """All that a library may choose a kernel and a layout of the weight by.

    Equal geometries compute equal numbers from equal numbers: it is the same code.
    """

    x: tuple[int, ...]  # (N, C, H, W)
    weight: tuple[int, ...]
    stride: int
    padding: Sides
    activation: str
    adds: bool  # whether another result is added ahead of the activation
    dtype: torch.dtype
    device: str
    threads: int

    @property
    def alone(self) -> Geometry:
        """The same for one image on one thread."""
        return replace(self, x=(1, *self.x[1:]), threads=1)

    @property
    def groups(self) -> int:
        """Groups of channels."""
        return self.x[1] // self.weight[1]


def packed(geometry: Geometry, weight: Tensor) -> tuple[bytes, Tensor]:
    """Return the weight as the kernel wants it, and what tells this layout from others.

    Packing ahead saves reordering the weights at every call, which at batch 1 costs more than the
    convolution; so does a layout for another size of image, count of images or threads.
    """
    weight = weight.to(geometry.dtype, memory_format=torch.channels_last)
    if not _packs(geometry):
        return b"", weight
    done: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        weight, geometry.padding, [geometry.stride] * 2, [1, 1], geometry.groups, geometry.x
    )
    return torch.ops.mkldnn._get_mkldnn_serialized_md(done).numpy().tobytes(), done


def convolution(geometry: Geometry, weight: Tensor, bias: Tensor) -> Convolution:
    """Return what convolves, given a packed weight, with sum and activation fused."""
    bias = bias.to(geometry.dtype)
    return (_onednn if _packs(geometry) else _plain)(geometry, weight, bias)


def channels_last(x: Tensor) -> Tensor:
    """Return a copy whose layout and alignment are always the same; kernels may depend on both."""
    return torch.empty_like(x, memory_format=torch.channels_last).copy_(x)


def has_bf16(device: torch.device) -> bool:
    """Tell whether bfloat16 can be computed; where it is emulated it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return _has_onednn() and _onednn_has_bf16()


@cache
def _onednn_has_bf16() -> bool:
    """Ask a convolution itself."""
    geometry = Geometry((1, 8, 2, 2), (8, 8, 1, 1), 1, (0, 0), "none", False, torch.bfloat16,
                        "cpu", torch.get_num_threads())  # fmt: skip
    try:
        _, weight = packed(geometry, torch.ones(geometry.weight))
        x = torch.ones(geometry.x, dtype=torch.bfloat16)
        convolution(geometry, weight, torch.zeros(8))(x, None)
    except RuntimeError:
        return False
    return True


def _packs(geometry: Geometry) -> bool:
    return geometry.device == "cpu" and _has_onednn()


@cache
def _has_onednn() -> bool:
    operators = ("_convolution_pointwise", "_get_mkldnn_serialized_md")
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and all(hasattr(torch.ops.mkldnn, name) for name in operators)


def _onednn(geometry: Geometry, weight: Tensor, bias: Tensor) -> Convolution:
    """Convolve through oneDNN, by the operators that torch.compile emits for a frozen network."""
    ops = torch.ops.mkldnn
    stride, dilation = [geometry.stride] * 2, [1, 1]
    common = (weight, bias, geometry.padding, stride, dilation, geometry.groups)
    attribute, scalars, kind = _FUSED[geometry.activation]
    after_sum = "relu" if geometry.activation == "relu" else None
    late = ACTIVATIONS["none" if geometry.activation in _AFTER_SUM else geometry.activation]

    def convolve(x: Tensor, add: Tensor | None) -> Tensor:
        y: Tensor
        if add is None:
            y = ops._convolution_pointwise(x, *common, attribute, scalars, kind)
        else:
            sum_of = ops._convolution_pointwise.binary
            y = late(sum_of(x, add, *common, "add", 1.0, after_sum, [], ""))
        return y

    return convolve


def _plain(geometry: Geometry, weight: Tensor, bias: Tensor) -> Convolution:
    """Convolve with PyTorch's own operators: graphics cards, and builds without oneDNN."""
    stride, padding, groups = geometry.stride, geometry.padding, geometry.groups

    def convolve(x: Tensor, add: Tensor | None) -> Tensor:
        y = F.conv2d(x, weight, bias, stride, padding, groups=groups)
        return ACTIVATIONS[geometry.activation](y if add is None else y.add_(add))

    return convolve
