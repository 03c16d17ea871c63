"""Evaluation at speed: folded BatchNorm, packed weights, fused activations, bfloat16.

What pays on a CPU, and why, stands at each place. Only evaluation comes here; training runs the
plain steps of kinds.py, and tests compare the two.

On a CPU an image's numbers depend on the image and the weights alone. Convolutions, dense layers on
tokens and attention see to it as same.py says; dense layers on vectors take row by row on one
thread; means are sums in an order of our own; LayerNorm is computed token by token, all else
element by element. On a graphics card the libraries choose kernels by the count of
images: there an image's numbers differ by up to `CUDA_TOLERANCE` of the largest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.engines.torch.attention import attention, steady_attention
from pyflux_transfer.engines.torch.convolution import (
    Convolution,
    Geometry,
    Sides,
    channels_last,
    convolution,
    packed,
)
from pyflux_transfer.engines.torch.kinds import Block, TrainRunner, forward, same_padding
from pyflux_transfer.engines.torch.same import keeps_bits, one_by_one
from pyflux_transfer.engines.torch.steps import ACTIVATIONS, Positions, Step, interpolated
from pyflux_transfer.engines.torch.threads import alone, spread
from pyflux_transfer.errors import EngineError, InputError
from pyflux_transfer.networks.shapes import trace
from pyflux_transfer.networks.units import Layer, Unit

CUDA_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}  # float32 may be TF32 there

_KEPT = 64  # inputs that a step stays prepared for: sizes of images, counts, threads

Case = tuple[torch.Size, int]  # shape of the input, threads


@dataclass
class _Ready:
    """What is prepared of a step: for each case, and one weight for cases of equal layout."""

    cases: dict[Case, Convolution] = field(default_factory=dict)
    weights: dict[tuple[Sides, bytes], Tensor] = field(default_factory=dict)


class FastRunner:
    """Runs the steps of evaluation; each convolution is prepared once, at its first use.

    `tensors` are read when a step is prepared; `forget` what has changed since.
    """

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        self.tensors = tensors
        self.dtype = dtype
        self._ready: dict[str, _Ready] = {}
        self._affines: dict[str, tuple[Tensor, Tensor]] = {}
        self._places: dict[tuple[str, int, int], Tensor] = {}
        self._preparing = Lock()

    def run(self, blocks: Iterable[Block], x: Tensor) -> Tensor:
        """Run the blocks in inference mode; x (N, …) float32 in, float32 out."""
        return spread(partial(self._run, tuple(blocks)), x)

    @torch.inference_mode()
    def _run(self, blocks: tuple[Block, ...], x: Tensor) -> Tensor:
        # Channels last is how oneDNN and cuDNN compute fastest, and every step keeps the layout.
        # The conversion to bfloat16 comes first: both at a time take twice as long.
        if x.ndim == 4:
            x = channels_last(x.to(self.dtype))
        elif x.ndim == 3:  # a copy, since within a batch they are not aligned alike
            x = x.to(self.dtype, copy=True)
        return forward(self, blocks, x).float().contiguous()

    def forget(self, blocks: Iterable[Block]) -> None:
        """Drop what was prepared from weights that have changed."""
        for block in blocks:
            for layer in block.unit.layers:
                self._ready.pop(layer.name, None)
                self._affines.pop(layer.name, None)
            self._places = {k: v for k, v in self._places.items() if k[0] not in block.unit.tensors}

    def step(self, step: Step, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Run the layer, its norm and its scale, add `add`, then the activation."""
        if step.layer.op == "dense" and x.ndim < 4:
            return self._dense(step, x) if x.ndim == 2 else self._tokens(step, x, add)
        ready = self._ready.setdefault(step.layer.name, _Ready())
        case = x.shape, torch.get_num_threads()
        convolve = ready.cases.get(case)
        if convolve is None:
            with self._preparing:  # the other threads wait rather than prepare the same
                convolve = ready.cases.get(case)
                if convolve is None:
                    convolve = self._prepared(step, x, add is not None, ready)
                    if len(ready.cases) == _KEPT:
                        del ready.cases[next(iter(ready.cases))]
                    ready.cases[case] = convolve
        return convolve(x, add)

    def norm(self, norm: Layer, x: Tensor, eps: float, activation: str = "none") -> Tensor:
        """Normalise by the kept statistics, then run the activation."""
        affine = self._affines.get(norm.name)
        if affine is None:
            affine = self._affines[norm.name] = self._affine(norm, eps)
        scale, shift = (each.to(x.dtype).reshape(-1, 1, 1) for each in affine)
        y = torch.addcmul(shift, x, scale)
        # In place it costs a fraction: new memory is what takes the time.
        return y.relu_() if activation == "relu" else ACTIVATIONS[activation](y)

    def layernorm(self, norm: Layer, x: Tensor, eps: float) -> Tensor:
        """Normalise over the last axis."""
        weight, bias = (self.tensors[name] for name in norm.tensors)
        if x.device.type != "cpu":  # where weights of another type are not taken
            return F.layer_norm(x.float(), x.shape[-1:], weight, bias, eps).to(x.dtype)
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    def positions(self, node: Positions, high: int, wide: int) -> Tensor:
        """Return the learnt positions for a grid; interpolated once for each."""
        case = node.name, high, wide
        if case not in self._places:
            learnt = self.tensors[node.name]
            self._places[case] = alone(partial(interpolated, node, learnt, high, wide))
        return self._places[case]

    def attend(self, x: Tensor, heads: int) -> Tensor:
        """Let queries, keys and values (N, T, 3·D) give (N, T, D)."""
        return (steady_attention if x.device.type == "cpu" else attention)(x, heads)

    def drop(self, x: Tensor, p: float) -> Tensor:  # noqa: ARG002
        """Leave all values: dropout is for training."""
        return x

    def mean(self, x: Tensor) -> Tensor:
        """Return the means (N, C, 1, 1) of the images' axes, in float32.

        Half is added to half until one is left: an order of the sum that no library chooses.
        """
        rows = x.permute(2, 3, 0, 1).flatten(0, 1)
        count = len(rows)
        while len(rows) > 1:
            half = len(rows) // 2
            summed = rows[:half].float() + rows[half : 2 * half].float()
            rows = torch.cat((summed, rows[2 * half :].float())) if len(rows) % 2 else summed
        return (rows[0].float() / count)[:, :, None, None]

    def _dense(self, step: Step, x: Tensor) -> Tensor:
        # In float32: logits want all their digits, and at this size memory sets the pace.
        weight, bias = self.tensors[step.weight], self._bias(step)
        layer = partial(F.linear, weight=weight, bias=bias)
        activation = ACTIVATIONS[step.activation]
        if x.device.type != "cpu":
            return activation(layer(x.float()))

        @torch.inference_mode()
        def rows() -> Tensor:
            # Copies, since within a batch they are not aligned alike.
            return torch.cat([activation(layer(row[None].clone())) for row in x.float()])

        return alone(rows)

    def _tokens(self, step: Step, x: Tensor, add: Tensor | None) -> Tensor:
        # As a 1 × 1 convolution of an image one token wide: the same memory, and what makes
        # convolutions fast and alike holds for them. PyTorch's own product takes up to three times
        # as long on processors that are not Intel's.
        if x.device.type == "cpu":
            y = self.step(step, _as_images(x), add if add is None else _as_images(add))
            return y.squeeze(3).transpose(1, 2)
        weight, bias = (each.to(x.dtype) for each in self._folded(step))
        y = F.linear(x, weight, bias)
        return ACTIVATIONS[step.activation](y if add is None else y.add_(add))

    def _bias(self, step: Step) -> Tensor | None:
        return self.tensors[step.bias] if step.bias else None

    def _prepared(self, step: Step, x: Tensor, adds: bool, ready: _Ready) -> Convolution:
        wider, padding = _centred(step, x)
        weight, bias = self._folded(step)
        if weight.ndim == 2:  # a dense layer on the channels of images
            weight = weight[:, :, None, None]
        if any(wider):
            weight = F.pad(weight, (wider[1], 0, wider[0], 0))
        asked = Geometry(
            tuple(x.shape), tuple(weight.shape), step.stride, padding, step.activation, adds,
            self.dtype, x.device.type, torch.get_num_threads(),
        )  # fmt: skip

        @torch.inference_mode()
        def prepare(geometry: Geometry) -> Convolution:
            layout, ours = packed(geometry, weight)
            return convolution(geometry, ready.weights.setdefault((wider, layout), ours), bias)

        if asked.device != "cpu" or asked == asked.alone or keeps_bits(asked):
            return prepare(asked)
        return one_by_one(alone(partial(prepare, asked.alone)))

    def _folded(self, step: Step) -> tuple[Tensor, Tensor]:
        """Weight and bias with norm and scale multiplied in: passes over the result saved."""
        weight = self.tensors[step.weight]
        bias = self._bias(step)
        if bias is None:
            bias = weight.new_zeros(weight.shape[0])
        if step.norm is not None:
            gain, shift = self._affine(step.norm, step.eps)
            weight, bias = weight * gain.reshape(-1, 1, 1, 1), bias * gain + shift
        if step.scale is not None:
            factor = self.tensors[step.scale.name].reshape(-1)
            weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
            bias = bias * factor
        return weight, bias

    def _affine(self, norm: Layer, eps: float) -> tuple[Tensor, Tensor]:
        """A BatchNorm of kept statistics as a factor and a summand for each channel."""
        leaves = ("weight", "bias", "running_mean", "running_var")
        gain, shift, mean, var = (self.tensors[f"{norm.name}.{leaf}"] for leaf in leaves)
        scale = gain / torch.sqrt(var + eps)
        return scale, shift - mean * scale


def _as_images(x: Tensor) -> Tensor:
    """Show tokens (N, T, D) as images (N, D, T, 1), channels last."""
    return x.contiguous().transpose(1, 2)[..., None]


def _centred(step: Step, x: Tensor) -> tuple[Sides, Sides]:
    """Return by how much to widen the kernel, and the padding, equal before and behind.

    TensorFlow's padding may need one more behind the image. Padding a copy of it would take
    three times as long as the convolution; a row and a column of zeros ahead of the kernel, with
    the larger padding on both sides, compute the same numbers.
    """
    if isinstance(step.padding, int):
        return (0, 0), (step.padding, step.padding)
    if isinstance(step.padding, tuple):
        return (0, 0), step.padding
    kernel = step.layer.shape[-1]
    (top, bottom), (left, right) = (same_padding(n, kernel, step.stride) for n in x.shape[2:])
    return (bottom - top, right - left), (bottom, right)


def agrees(fast: FastRunner, blocks: Iterable[Block], tolerance: float = 0.05) -> bool:
    """Compare probabilities with float32's on a few synthetic images.

    True when none differs by more than `tolerance` and the best class is the same, or as good as
    the same where two lie within the tolerance. Small images: the check shall not be felt.
    """
    blocks = tuple(blocks)
    images = _synthetic(count=4, size=_smallest([block.unit for block in blocks])).to(
        next(iter(fast.tensors.values())).device
    )
    with torch.inference_mode():
        exact = forward(TrainRunner(fast.tensors), blocks, images).softmax(1)
        ours = torch.cat([fast.run(blocks, image[None]) for image in images]).softmax(1)
        best = exact.gather(1, ours.argmax(1, keepdim=True)).squeeze(1)
        near = (exact - ours).abs().max() <= tolerance
        return bool(near and (exact.amax(1) - best <= tolerance).all())


def _smallest(units: Sequence[Unit]) -> int:
    """Return the side, from 64 on, of the smallest images that a network takes."""
    multiple = int(units[0].options.get("multiple", 1))
    for side in range(-(-64 // multiple) * multiple, 1024, multiple):
        with suppress(InputError):
            trace(units, (1, 3, side, side))
            return side
    raise EngineError("The network takes no images of 64 to 1024 pixels. Use precision='fp32'.")


def _synthetic(count: int, size: int) -> Tensor:
    """Waves of several lengths and directions, at the scale of normalised images."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    waves = [
        torch.sin((x * (n + 1) + y * (channel - n)) / 7.0) * 1.5
        for n in range(count)
        for channel in range(3)
    ]
    return torch.stack(waves).reshape(count, 3, size, size)
