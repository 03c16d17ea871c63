"""Evaluation at speed: folded BatchNorm, packed weights, fused activations, bfloat16.

What pays on a CPU, and why, stands at each place. Only evaluation comes here; training runs the
plain steps of kinds.py, and tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from threading import Lock

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.engines.torch.kinds import (
    ACTIVATIONS,
    Block,
    Step,
    TrainRunner,
    forward,
    same_padding,
)
from pyflux_transfer.engines.torch.threads import spread

Convolution = Callable[[Tensor, Tensor | None], Tensor]
Sides = tuple[int, int]  # of the two axes of an image
Case = tuple[Sides, int, int]  # how much a kernel is widened, threads, images: one, or several (2)

# oneDNN's names for activations that it computes while a result is still in the cache.
_FUSED: dict[str, tuple[str, list[float]]] = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
}


class FastRunner:
    """Runs the steps of evaluation; each convolution is prepared once, at its first use.

    `tensors` are read when a step is prepared; `forget` what has changed since.
    """

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        self.tensors = tensors
        self.dtype = dtype
        self._ready: dict[str, dict[Case, Convolution]] = {}
        self._preparing = Lock()

    def run(self, blocks: Iterable[Block], x: Tensor) -> Tensor:
        """Run the blocks in inference mode; x (N, …) float32 in, float32 out."""
        return spread(partial(self._run, tuple(blocks)), x)

    @torch.inference_mode()
    def _run(self, blocks: tuple[Block, ...], x: Tensor) -> Tensor:
        # Channels last is how oneDNN and cuDNN compute fastest, and every step keeps the layout.
        # The conversion to bfloat16 comes first: both at a time take twice as long.
        if x.ndim == 4:
            x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return forward(self, blocks, x).float().contiguous()

    def forget(self, blocks: Iterable[Block]) -> None:
        """Drop what was prepared from weights that have changed."""
        for block in blocks:
            for step in block.steps:
                self._ready.pop(step.layer.name, None)

    def step(self, step: Step, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Run the layer and its norm, add `add`, then the activation."""
        if step.layer.op == "dense":
            # In float32: logits want all their digits, and at this size memory sets the pace.
            weight = self.tensors[f"{step.layer.name}.weight"]
            return ACTIVATIONS[step.activation](F.linear(x.float(), weight, self._bias(step)))
        wider, padding = _centred(step, x)
        ready = self._ready.setdefault(step.layer.name, {})
        case = _case(wider, x)
        if case not in ready:
            with self._preparing:  # the other threads wait rather than prepare the same
                if case not in ready:
                    ready[case] = self._prepared(step, x.shape, wider, padding)
        return ready[case](x, add)

    def drop(self, x: Tensor, p: float) -> Tensor:  # noqa: ARG002
        """Leave all values: dropout is for training."""
        return x

    def _bias(self, step: Step) -> Tensor | None:
        return self.tensors[step.bias] if step.bias else None

    def _prepared(self, step: Step, shape: torch.Size, wider: Sides, padding: Sides) -> Convolution:
        weight, bias = self._folded(step)
        groups = shape[1] // weight.shape[1]
        if any(wider):
            weight = F.pad(weight, (wider[1], 0, wider[0], 0))
        weight = weight.to(self.dtype, memory_format=torch.channels_last)
        make = _onednn if _packs(weight) else _plain
        return make(step, shape, weight, bias.to(self.dtype), padding, groups)

    def _folded(self, step: Step) -> tuple[Tensor, Tensor]:
        """Weight and bias with the BatchNorm multiplied in: one pass over the result saved."""
        weight = self.tensors[f"{step.layer.name}.weight"]
        bias = self._bias(step)
        if bias is None:
            bias = weight.new_zeros(weight.shape[0])
        if step.norm is None:
            return weight, bias
        leaves = ("weight", "bias", "running_mean", "running_var")
        gain, shift, mean, var = (self.tensors[f"{step.norm.name}.{leaf}"] for leaf in leaves)
        scale = gain / torch.sqrt(var + step.eps)
        return weight * scale.reshape(-1, 1, 1, 1), (bias - mean) * scale + shift


def _case(wider: Sides, x: Tensor) -> Case:
    """Return what a convolution of `x` is prepared for.

    oneDNN lays a weight out for so many threads, and otherwise for one image than for more. A
    layout for another case is reordered at every call: ten times as slow in places.
    """
    threads = torch.get_num_threads() if _packs(x) else 1
    return wider, threads, 1 if threads == 1 else min(len(x), 2)


def _packs(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and _has_onednn()


@cache
def _has_onednn() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _centred(step: Step, x: Tensor) -> tuple[Sides, Sides]:
    """Return by how much to widen the kernel, and the padding, equal before and behind.

    TensorFlow's padding may need one more behind the image. Padding a copy of it would take
    three times as long as the convolution; a row and a column of zeros ahead of the kernel, with
    the larger padding on both sides, compute the same numbers.
    """
    if not isinstance(step.padding, str):
        return (0, 0), (step.padding, step.padding)
    kernel = step.layer.shape[-1]
    (top, bottom), (left, right) = (same_padding(n, kernel, step.stride) for n in x.shape[2:])
    return (bottom - top, right - left), (bottom, right)


def _onednn(
    step: Step, shape: torch.Size, weight: Tensor, bias: Tensor, padding: Sides, groups: int
) -> Convolution:
    """Convolve through oneDNN with the weight packed ahead, sum and activation fused.

    These are the operators that torch.compile emits for a frozen network. Packing ahead saves
    reordering the weights at every call, which at batch 1 costs more than the convolution.
    """
    ops = torch.ops.mkldnn
    stride, dilation = [step.stride] * 2, [1, 1]
    packed = ops._reorder_convolution_weight(weight, padding, stride, dilation, groups, shape)
    common = (packed, bias, padding, stride, dilation, groups)
    attribute, scalars = _FUSED[step.activation]
    after_sum = None if attribute == "none" else attribute

    def convolve(x: Tensor, add: Tensor | None) -> Tensor:
        y: Tensor
        if add is None:
            y = ops._convolution_pointwise(x, *common, attribute, scalars, "")
        else:
            sum_of = ops._convolution_pointwise.binary
            y = sum_of(x, add, *common, "add", 1.0, after_sum, scalars, "")
        return y

    return convolve


def _plain(
    step: Step, _: torch.Size, weight: Tensor, bias: Tensor, padding: Sides, groups: int
) -> Convolution:
    """Convolve with PyTorch's own operators: graphics cards, and builds without oneDNN."""

    def convolve(x: Tensor, add: Tensor | None) -> Tensor:
        y = F.conv2d(x, weight, bias, step.stride, padding, groups=groups)
        return ACTIVATIONS[step.activation](y if add is None else y.add_(add))

    return convolve


# --- bfloat16 -----------------------------------------------------------------------------------


def has_bf16(device: torch.device) -> bool:
    """Tell whether the hardware multiplies bfloat16 matrices itself; emulation is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in tests)


def agrees(fast: FastRunner, blocks: Iterable[Block], tolerance: float = 0.05) -> bool:
    """Compare probabilities with float32's on a few synthetic images.

    True when none differs by more than `tolerance` and the best class is the same, or as good as
    the same where two lie within the tolerance. Small images: the check shall not be felt.
    """
    blocks = tuple(blocks)
    images = _synthetic(count=4, size=64).to(next(iter(fast.tensors.values())).device)
    with torch.inference_mode():
        exact = forward(TrainRunner(fast.tensors), blocks, images).softmax(1)
        ours = fast.run(blocks, images).softmax(1)
        best = exact.gather(1, ours.argmax(1, keepdim=True)).squeeze(1)
        near = (exact - ours).abs().max() <= tolerance
        return bool(near and (exact.amax(1) - best <= tolerance).all())


def _synthetic(count: int, size: int) -> Tensor:
    """Waves of several lengths and directions, at the scale of normalised images."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    waves = [
        torch.sin((x * (n + 1) + y * (channel - n)) / 7.0) * 1.5
        for n in range(count)
        for channel in range(3)
    ]
    return torch.stack(waves).reshape(count, 3, size, size)
