"""One convolution of training: forward with its activation fused, and its gradients.

PyTorch's own operators compute the same; where another way is faster, and why, stands at each
place. Meant for bfloat16, where products sum in float32; float32 is for tests, which compare it
with the plain operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.engines.torch.steps import ACTIVATIONS

Sides = tuple[int, int]  # of the two axes of an image

# Activations that oneDNN computes while a result is still in the cache, as its name and numbers.
# The result alone tells how their gradient passes. Behind a sum it knows but the first two, of
# groups of channels only the first.
_FUSED: dict[str, tuple[str, list[float]]] = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
}
_AFTER_SUM = {1: ("none", "relu")}

# Kernel's places times the result's up to which one product of matrices is the faster gradient of
# a kernel: 1 × 1 on 28 × 28, 3 × 3 on 14 × 14. Above, what the kernel sees takes too much memory.
_FEW = 2000


@dataclass(frozen=True)
class Window:
    """How a kernel moves over the image, and the groups of channels."""

    stride: int
    padding: Sides
    groups: int


def folded(weight: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight (O, …) with each output's numbers multiplied by its factor (O,), rounded."""
    return _Folded.apply(weight, factor, dtype)  # type: ignore[no-any-return, no-untyped-call]


def rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight in another type, images' kernels channels last."""
    return weight.to(dtype, memory_format=_layout(weight))


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None, window: Window, activation: str
) -> Tensor:
    """Convolve, add `bias` (O,) float32 and `add`, then run the activation.

    Images channels last, of the weight's type.
    """
    fuses = activation in (_FUSED if add is None else _AFTER_SUM.get(window.groups, ("none",)))
    fused = activation if fuses else "none"
    y: Tensor = _Convolved.apply(x, weight, bias, add, window, fused)  # type: ignore[no-untyped-call]
    return y if fuses else ACTIVATIONS[activation](y)


class _Folded(torch.autograd.Function):
    """A factor of each output, as a BatchNorm of kept statistics is one.

    In the weight it costs no pass over the images, neither forward nor backward: its gradient is
    a sum over the weight's numbers, which are fewer.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(weight, factor)
        return rounded(weight * _beside(factor, weight), dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, factor = ctx.saved_tensors
        slope = torch.empty_like(weight).copy_(slopes[0])
        of_factor = torch.linalg.vecdot(slope.flatten(1), weight.flatten(1))
        return slope.mul_(_beside(factor, weight)), of_factor, None


class _Convolved(torch.autograd.Function):
    """A convolution with what comes behind it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None, window: Window,
        activation: str,
    ) -> Tensor:  # fmt: skip
        forward = _onednn if x.device.type == "cpu" else _plain
        y = forward(x, weight, bias.to(weight.dtype), add, window, activation)
        ctx.window, ctx.activation = window, activation
        ctx.save_for_backward(x, weight, None if activation == "none" else y)
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        of_x, of_weight, of_bias, of_add = ctx.needs_input_grad[:4]
        slope = slopes[0].contiguous(memory_format=torch.channels_last)
        if ctx.activation == "relu":
            slope = torch.ops.aten.threshold_backward(slope, y, 0)
        elif ctx.activation == "relu6":
            slope = torch.ops.aten.hardtanh_backward(slope, y, 0, 6)
        return (
            _of_images(slope, x, weight, ctx.window) if of_x else None,
            _of_kernel(slope, x, weight, ctx.window) if of_weight else None,
            slope.sum((0, 2, 3)).float() if of_bias else None,
            slope if of_add else None,
            None,
            None,
        )


# --- forward ------------------------------------------------------------------------------------


def _onednn(
    x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None, window: Window, activation: str
) -> Tensor:
    ops = torch.ops.mkldnn
    common = (weight, bias, window.padding, [window.stride] * 2, [1, 1], window.groups)
    attribute, scalars = _FUSED[activation]
    y: Tensor
    if add is None:
        y = ops._convolution_pointwise(x, *common, attribute, scalars, "")
    else:
        after = None if activation == "none" else attribute
        y = ops._convolution_pointwise.binary(x, add, *common, "add", 1.0, after, [], "")
    return y


def _plain(
    x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None, window: Window, activation: str
) -> Tensor:
    y = F.conv2d(x, weight, bias, window.stride, window.padding, groups=window.groups)
    return ACTIVATIONS[activation](y if add is None else y.add_(add))


# --- gradients ----------------------------------------------------------------------------------


def _of_images(slope: Tensor, x: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Return the gradient with respect to x."""
    if window.groups > 1 and window.stride > 1:
        return _in_float32(slope, x, weight, window, 0)
    return _gradient(slope, x, weight, window, 0)


def _of_kernel(slope: Tensor, x: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Return the gradient with respect to the weight."""
    if window.groups > 1:
        return _in_float32(slope, x, weight, window, 1)
    outputs, inputs, *kernel = weight.shape
    few = kernel[0] * kernel[1] * slope.shape[2] * slope.shape[3] <= _FEW
    if not few or slope.dtype == torch.float32 or slope.device.type != "cpu":
        return _gradient(slope, x, weight, window, 1)
    # oneDNN's own gradient takes up to half as long again, and its threads wait for each other
    # in a way that takes many times as long where other programs run beside them.
    found = _rows(slope.permute(0, 2, 3, 1)).t() @ _rows(_seen(x, weight, window))
    return found.view(outputs, *kernel, inputs).permute(0, 3, 1, 2)


def _gradient(slope: Tensor, x: Tensor, weight: Tensor, window: Window, which: int) -> Tensor:
    found: Tensor = torch.ops.aten.convolution_backward(
        slope, x, weight, None, [window.stride] * 2, window.padding, [1, 1], False, [0, 0],
        window.groups, [which == 0, which == 1, False],
    )[which]  # fmt: skip
    return found


def _in_float32(slope: Tensor, x: Tensor, weight: Tensor, window: Window, which: int) -> Tensor:
    """Compute what oneDNN has no fast kernel of bfloat16 for: depthwise, it takes 3 to 20 times."""
    found = _gradient(slope.float(), x.float(), weight.float(), window, which)
    return found.to(weight.dtype)


def _seen(x: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Return what the kernel sees at each place of the result: (N, H, W, kernel · C)."""
    (above, left), stride = window.padding, window.stride
    high, wide = weight.shape[2:]
    x = x.permute(0, 2, 3, 1)
    if (high, wide, stride, above, left) == (1, 1, 1, 0, 0):
        return x
    x = F.pad(x, (0, 0, left, left, above, above)).contiguous()
    images, rows, columns, channels = x.shape
    rows, columns = (rows - high) // stride + 1, (columns - wide) // stride + 1
    image, down, right, one = x.stride()
    return x.as_strided(
        (images, rows, columns, high, wide, channels),
        (image, down * stride, right * stride, down, right, one),
    ).flatten(3)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _beside(factor: Tensor, weight: Tensor) -> Tensor:
    return factor.reshape(-1, *[1] * (weight.ndim - 1))


def _layout(weight: Tensor) -> torch.memory_format:
    return torch.channels_last if weight.ndim == 4 else torch.contiguous_format
