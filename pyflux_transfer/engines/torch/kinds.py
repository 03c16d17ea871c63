"""The unit kinds over PyTorch: how the steps of a unit are wired, in training and evaluation.

What a unit does is written once, over a `Runner` that executes steps: `TrainRunner` here, with
autograd, and the folded one for evaluation in fast.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.engines.torch.attention import attention
from pyflux_transfer.engines.torch.steps import ACTIVATIONS, Positions, Runner, Step, interpolated
from pyflux_transfer.engines.torch.trees import Wired, run_tree, steps, wired
from pyflux_transfer.errors import EngineError, TrainingError
from pyflux_transfer.networks.shapes import check_fit
from pyflux_transfer.networks.units import Layer, Option, Unit

Options = Mapping[str, Option]


@dataclass(frozen=True)
class Block:
    """A unit and its steps, and the tree of a unit that has one."""

    unit: Unit
    steps: tuple[Step, ...]
    tree: Wired | None = None


# --- from a unit to its steps -------------------------------------------------------------------

Geometry = tuple[int, int | str, str]  # stride, padding, activation


def _padding(o: Options) -> int | str:
    return o["padding"] if isinstance(o["padding"], str) else int(o["padding"])


def _conv_steps(o: Options) -> list[Geometry]:
    return [(int(o["stride"]), _padding(o), str(o["activation"]))]


def _inverted_steps(o: Options) -> list[Geometry]:
    expansion: list[Geometry] = [] if o["mid"] == o["in"] else [(1, 0, "relu6")]
    return [*expansion, (int(o["stride"]), _padding(o), "relu6"), (1, 0, "none")]


def _basic_steps(o: Options) -> list[Geometry]:
    return [(int(o["stride"]), 1, "relu"), (1, 1, "relu"), *_shortcut(o)]


def _bottleneck_steps(o: Options) -> list[Geometry]:
    return [(1, 0, "relu"), (int(o["stride"]), 1, "relu"), (1, 0, "relu"), *_shortcut(o)]


def _shortcut(o: Options) -> list[Geometry]:
    same = o["stride"] == 1 and o["in"] == o["out"]
    return [] if same else [(int(o["stride"]), 0, "none")]


_STEPS: dict[str, Callable[[Options], list[Geometry]]] = {
    "conv": _conv_steps,
    "dense": lambda o: [(1, 0, str(o["activation"]))],
    "basic": _basic_steps,
    "bottleneck": _bottleneck_steps,
    "fire": lambda _: [(1, 0, "relu"), (1, 0, "relu"), (1, 1, "relu")],
    "inverted": _inverted_steps,
}


def block(unit: Unit) -> Block:
    """Pair a unit's layers, in order, with the strides, paddings and activations of its kind."""
    if unit.body is not None:
        tree = wired(unit.body)
        return Block(unit, tuple(steps(tree)), tree)
    if not unit.layers:
        return Block(unit, ())
    geometry = _STEPS[unit.kind](unit.options)
    layers = [layer for layer in unit.layers if layer.op != "norm"]
    norms = dict(zip(unit.layers, unit.layers[1:], strict=False))
    eps = float(unit.options.get("eps", 1e-5))
    paired = []
    for layer, (stride, padding, activation) in zip(layers, geometry, strict=True):
        behind = norms.get(layer)
        norm = behind if behind is not None and behind.op == "norm" else None
        paired.append(Step(layer, norm, stride, padding, activation, eps))
    return Block(unit, tuple(paired))


# --- what each kind computes --------------------------------------------------------------------


def _tree(run: Runner, block: Block, x: Tensor) -> Tensor:
    assert block.tree is not None
    return run_tree(run, block.tree, x)


def _single(run: Runner, block: Block, x: Tensor) -> Tensor:
    return run.step(block.steps[0], x)


def _residual(run: Runner, block: Block, x: Tensor) -> Tensor:
    """Basic and bottleneck blocks: the shortcut, where it has a step, is the last one."""
    depth = 2 if block.unit.kind == "basic" else 3
    body, down = block.steps[:depth], block.steps[depth:]
    y = x
    for step in body[:-1]:
        y = run.step(step, y)
    return run.step(body[-1], y, add=run.step(down[0], x) if down else x)


def _inverted(run: Runner, block: Block, x: Tensor) -> Tensor:
    y = x
    for step in block.steps[:-1]:
        y = run.step(step, y)
    return run.step(block.steps[-1], y, add=x if block.unit.options["residual"] else None)


def _fire(run: Runner, block: Block, x: Tensor) -> Tensor:
    squeeze, one, three = block.steps
    y = run.step(squeeze, x)
    return torch.cat((run.step(one, y), run.step(three, y)), dim=1)


def _maxpool(_: Runner, block: Block, x: Tensor) -> Tensor:
    o = block.unit.options
    return F.max_pool2d(
        x, int(o["kernel"]), int(o["stride"]), int(o["padding"]), ceil_mode=bool(o["ceil"])
    )


def _avgpool(run: Runner, block: Block, x: Tensor) -> Tensor:
    # In float32 whatever came in: what follows is small, and logits want all their digits.
    size = int(block.unit.options["size"])
    if size == 1:
        return run.mean(x)
    return F.adaptive_avg_pool2d(x.float(), size)


def _flatten(_: Runner, __: Block, x: Tensor) -> Tensor:
    return x.flatten(1)


def _dropout(run: Runner, block: Block, x: Tensor) -> Tensor:
    return run.drop(x, float(block.unit.options["p"]))


_KINDS: dict[str, Callable[[Runner, Block, Tensor], Tensor]] = {
    "conv": _single,
    "dense": _single,
    "basic": _residual,
    "bottleneck": _residual,
    "inverted": _inverted,
    "fire": _fire,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "flatten": _flatten,
    "dropout": _dropout,
    "block": _tree,
}


def forward(run: Runner, blocks: Iterable[Block], x: Tensor) -> Tensor:
    """Run the blocks one after another.

    Raises InputError where x does not fit a unit, and EngineError with the unit's name where
    PyTorch refuses or fails.
    """
    for block in blocks:
        check_fit(block.unit, tuple(x.shape))
        try:
            x = _KINDS[block.unit.kind](run, block, x)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise EngineError(
                f"Unit '{block.unit.name}' failed on input {tuple(x.shape)}: {reason}"
            ) from error
    return x


# --- convolution and its padding ----------------------------------------------------------------


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis: before, after; the odd one goes behind."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _padded(step: Step, x: Tensor) -> tuple[Tensor, int | tuple[int, int]]:
    """Return what the convolution shall see, and the padding left to do by it."""
    if not isinstance(step.padding, str):
        return x, step.padding
    kernel = step.layer.shape[-1]
    rows, columns = (same_padding(size, kernel, step.stride) for size in x.shape[2:])
    return F.pad(x, (*columns, *rows)), 0


class TrainRunner:
    """Runs the steps with autograd on the tensors as they are.

    `training` makes BatchNorm take the batch's statistics and update its own in place; `masks`
    makes the dropout masks, None leaves values as they are.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        training: bool = False,
        masks: np.random.Generator | None = None,
    ) -> None:
        self.tensors = tensors
        self.training = training
        self.masks = masks

    def enter(self, x: Tensor) -> Tensor:
        """Return what comes to the tail as its steps want it."""
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

    def step(self, step: Step, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Run the layer, its norm and its scale, add `add`, then the activation."""
        weight = self.tensors[step.weight]
        bias = self.tensors[step.bias] if step.bias else None
        if step.layer.op == "dense" and x.ndim == 4:
            x = F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
        elif step.layer.op == "dense":
            x = F.linear(x, weight, bias)
        else:
            groups = x.shape[1] // weight.shape[1]
            x, padding = _padded(step, x)
            x = F.conv2d(x, weight, bias, step.stride, padding, groups=groups)
        if step.norm:
            x = self.norm(step.norm, x, step.eps)
        if step.scale:
            factor = self.tensors[step.scale.name].reshape(-1)
            x = x * (factor[:, None, None] if x.ndim == 4 else factor)
        return activated(x if add is None else x.add_(add), step.activation)

    def norm(self, norm: Layer, x: Tensor, eps: float, activation: str = "none") -> Tensor:
        """Normalise by the batch's statistics in training, by the kept ones in evaluation."""
        name = norm.name
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] < 2:
            raise TrainingError(
                f"BatchNorm '{name}' cannot learn from one value a channel. "
                "Use a batch of at least 2 images, or freeze_bn."
            )
        leaves = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (self.tensors[f"{name}.{leaf}"] for leaf in leaves)
        y = F.batch_norm(x, mean, var, weight, bias, self.training, norm.momentum, eps)
        return activated(y, activation)

    def layernorm(self, norm: Layer, x: Tensor, eps: float) -> Tensor:
        """Normalise over the last axis."""
        weight, bias = (self.tensors[name] for name in norm.tensors)
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    def positions(self, node: Positions, high: int, wide: int) -> Tensor:
        """Return the learnt positions for a grid."""
        return interpolated(node, self.tensors[node.name], high, wide)

    def attend(self, x: Tensor, heads: int) -> Tensor:
        """Let queries, keys and values (N, T, 3·D) give (N, T, D)."""
        return attention(x, heads)

    def drop(self, x: Tensor, p: float) -> Tensor:
        """Drop a share `p` of the values and scale the others up."""
        if self.masks is None or p == 0:
            return x
        kept = self.masks.random(tuple(x.shape), dtype=np.float32) >= p
        mask = torch.from_numpy(kept.astype(np.float32) / np.float32(1 - p))
        return x * mask.to(x.device)

    def mean(self, x: Tensor) -> Tensor:
        """Return the means (N, C, 1, 1) of the images' axes, in float32."""
        return x.mean((2, 3), keepdim=True, dtype=torch.float32)


def activated(x: Tensor, activation: str) -> Tensor:
    """Run an activation on what nobody else sees: in place where that leaves the same gradient.

    The same numbers in half the memory: new memory is what takes the time.
    """
    return x.relu_() if activation == "relu" else ACTIVATIONS[activation](x)


def parameters(blocks: Sequence[Block]) -> list[str]:
    """Names of the trainable tensors of the blocks, in order."""
    names = (name for block in blocks for name in block.unit.tensors)
    return [name for name in names if ".running_" not in name]
