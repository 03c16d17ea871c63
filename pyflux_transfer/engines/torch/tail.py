"""Training in bfloat16, where the hardware multiplies it: twice as fast as float32.

The weights themselves, what the optimizer remembers, the statistics of BatchNorm, sums of norms,
layers on vectors, logits and loss are float32. Images and tokens between layers are bfloat16, and
so are the factors of convolutions, of dense layers on them and of attention. Tests compare it with
the plain steps of kinds.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.engines.torch.attention import products
from pyflux_transfer.engines.torch.kinds import TrainRunner, activated, same_padding
from pyflux_transfer.engines.torch.steps import Step
from pyflux_transfer.engines.torch.trained import Sides, Window, convolved, folded, rounded
from pyflux_transfer.networks.units import Layer


class TailRunner(TrainRunner):
    """Runs the steps with autograd on float32 tensors, computing in `dtype`."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        training: bool = False,
        masks: np.random.Generator | None = None,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(tensors, training, masks)
        self.dtype = dtype

    def enter(self, x: Tensor) -> Tensor:
        """Return what comes to the tail as its steps want it."""
        return super().enter(x.to(self.dtype) if x.ndim > 2 else x)

    def step(self, step: Step, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Run the layer, its norm and its scale, add `add`, then the activation."""
        if x.ndim == 2:  # in float32: logits want all their digits
            return super().step(step, x.float(), add)
        factor, bias = self._affine(step)
        weight = self.tensors[step.weight]
        if factor is None:
            weight = rounded(weight, self.dtype)
        else:
            weight = folded(weight, factor, self.dtype)
        if step.layer.op == "dense":
            return self._dense(step, x, weight, bias.to(self.dtype), add)
        x, padding = _padded(step, x)
        window = Window(step.stride, padding, x.shape[1] // weight.shape[1])
        if not (step.norm and self.training):
            return convolved(x, weight, bias, add, window, step.activation)
        y = self.norm(step.norm, convolved(x, weight, bias, None, window, "none"), step.eps)
        if step.scale:
            y = y * self.tensors[step.scale.name].reshape(-1, 1, 1).to(self.dtype)
        return activated(y if add is None else y.add_(add), step.activation)

    def layernorm(self, norm: Layer, x: Tensor, eps: float) -> Tensor:
        """Normalise over the last axis."""
        if x.device.type != "cpu":  # where weights of another type are not taken
            return super().layernorm(norm, x.float(), eps).to(x.dtype)
        return super().layernorm(norm, x, eps)

    def attend(self, x: Tensor, heads: int) -> Tensor:
        """Let queries, keys and values (N, T, 3·D) give (N, T, D)."""
        return (products if x.device.type == "cpu" else super().attend)(x, heads)

    def drop(self, x: Tensor, p: float) -> Tensor:
        """Drop a share `p` of the values and scale the others up."""
        return super().drop(x, p).to(x.dtype)

    def _dense(
        self, step: Step, x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None
    ) -> Tensor:
        if x.ndim == 4:
            y = F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
        else:
            y = F.linear(x, weight, bias)
        return activated(y if add is None else y.add_(add), step.activation)

    def _affine(self, step: Step) -> tuple[Tensor | None, Tensor]:
        """Return what each output of the weight is multiplied by, if anything, and the bias.

        A BatchNorm that learns its statistics cannot be in them, nor what stands behind it.
        """
        weight = self.tensors[step.weight]
        bias = self.tensors[step.bias] if step.bias else weight.new_zeros(len(weight))
        if step.norm and self.training:
            return None, bias
        factor = None
        if step.norm:
            leaves = ("weight", "bias", "running_mean", "running_var")
            gain, shift, mean, var = (self.tensors[f"{step.norm.name}.{leaf}"] for leaf in leaves)
            factor = gain / torch.sqrt(var + step.eps)
            bias = (bias - mean) * factor + shift
        if step.scale:
            scale = self.tensors[step.scale.name].reshape(-1)
            factor, bias = scale if factor is None else factor * scale, bias * scale
        return factor, bias


def _padded(step: Step, x: Tensor) -> tuple[Tensor, Sides]:
    """Return what the convolution shall see, and the padding left to do by it."""
    if isinstance(step.padding, int):
        return x, (step.padding, step.padding)
    if isinstance(step.padding, tuple):
        return x, step.padding
    kernel = step.layer.shape[-1]
    (top, bottom), (left, right) = (same_padding(n, kernel, step.stride) for n in x.shape[2:])
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom)), (0, 0)
