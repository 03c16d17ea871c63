"""A block's tree over PyTorch.

What follows a convolution or a dense layer (BatchNorm, a scale, the other branches of a sum, an
activation) is fused with it into one `Step`, which a runner then computes at its best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add, mul

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.engines.torch.steps import ACTIVATIONS, Positions, Runner, Step
from pyflux_transfer.networks.tree import Node
from pyflux_transfer.networks.units import Layer, Option


@dataclass(frozen=True)
class Wired:
    """A node after fusing: a step, or an operation over others.

    A sum with a step adds its other branches to what the step computes of the last one.
    """

    op: str
    options: Mapping[str, Option]
    layer: Layer | None = None
    nodes: tuple[Wired, ...] = ()
    step: Step | None = None


def steps(node: Wired) -> Iterator[Step]:
    """Yield the steps of a tree."""
    for inner in node.nodes:
        yield from steps(inner)
    if node.step is not None:
        yield node.step


# --- fusing -------------------------------------------------------------------------------------


def wired(node: Node) -> Wired:
    """Return the tree with its steps fused."""
    if node.op != "chain":
        return _alone(node, "none")
    done: list[Wired] = []
    rest = list(node.nodes)
    while rest:
        done.append(_taken(rest))
    return done[0] if len(done) == 1 else Wired("chain", {}, nodes=tuple(done))


def _taken(rest: list[Node]) -> Wired:
    """Take the first node, with those behind it that it can be computed with."""
    node = rest.pop(0)
    if node.op in ("conv", "dense"):
        return _step(node, rest)
    if node.op == "norm":
        return Wired("norm", {**node.options, "activation": _function(rest)}, node.layer)
    if node.op == "add" and rest and rest[0].op == "act":
        fused = _alone(node, str(rest[0].options["function"]))
        if fused.step is not None:
            rest.pop(0)
        return fused
    return _alone(node, "none")


def _next(rest: list[Node], op: str) -> Node | None:
    """Take the next node where it does this."""
    return rest.pop(0) if rest and rest[0].op == op else None


def _function(rest: list[Node]) -> str:
    """Take the next node where it is an activation; return its name."""
    act = _next(rest, "act")
    return str(act.options["function"]) if act else "none"


def _alone(node: Node, activation: str) -> Wired:
    if node.op in ("conv", "dense", "norm"):
        return _taken([node])
    inner = tuple(wired(each) for each in node.nodes)
    if node.op == "add":
        return _sum(inner, activation)
    return Wired(node.op, node.options, node.layer, inner)


def _step(node: Node, rest: list[Node]) -> Wired:
    o, layer = node.options, node.layer
    assert layer is not None
    norm = _next(rest, "norm") if node.op == "conv" else None
    scale = _next(rest, "scale")
    step = Step(
        layer,
        norm.layer if norm else None,
        int(o.get("stride", 1)),
        (int(o.get("above", 0)), int(o.get("left", 0))),
        _function(rest),
        float(norm.options["eps"]) if norm else 0.0,
        scale.layer if scale else None,
    )
    return Wired("step", {}, step=step)


def _sum(branches: tuple[Wired, ...], activation: str) -> Wired:
    """Let the last branch that ends with a bare step add the others to it."""
    for index, branch in reversed(list(enumerate(branches))):
        *before, last = branch.nodes if branch.op == "chain" and branch.nodes else (branch,)
        if last.op == "step" and last.step is not None and last.step.activation == "none":
            others = branches[:index] + branches[index + 1 :]
            body = Wired("chain", {}, nodes=tuple(before))
            return Wired("add", {}, nodes=(*others, body),
                         step=replace(last.step, activation=activation))  # fmt: skip
    return Wired("add", {}, nodes=branches)


# --- running ------------------------------------------------------------------------------------


def run_tree(run: Runner, node: Wired, x: Tensor) -> Tensor:
    """Compute a tree."""
    return _RUNS[node.op](run, node, x)


def _chain(run: Runner, node: Wired, x: Tensor) -> Tensor:
    for inner in node.nodes:
        x = run_tree(run, inner, x)
    return x


def _single(run: Runner, node: Wired, x: Tensor) -> Tensor:
    assert node.step is not None
    return run.step(node.step, x)


def _add(run: Runner, node: Wired, x: Tensor) -> Tensor:
    results = [run_tree(run, inner, x) for inner in node.nodes]
    if node.step is None:
        return reduce(add, results)
    return run.step(node.step, results.pop(), add=reduce(add, results))


def _joined(join: Callable[[list[Tensor]], Tensor]) -> Callable[[Runner, Wired, Tensor], Tensor]:
    return lambda run, node, x: join([run_tree(run, inner, x) for inner in node.nodes])


def _norm(run: Runner, node: Wired, x: Tensor) -> Tensor:
    assert node.layer is not None
    return run.norm(node.layer, x, float(node.options["eps"]), str(node.options["activation"]))


def _layernorm(run: Runner, node: Wired, x: Tensor) -> Tensor:
    assert node.layer is not None
    eps = float(node.options["eps"])
    if x.ndim != 4:
        return run.layernorm(node.layer, x, eps)
    # Of images that lie channels last neither change of axes copies.
    return run.layernorm(node.layer, x.permute(0, 2, 3, 1), eps).permute(0, 3, 1, 2)


def _scale(run: Runner, node: Wired, x: Tensor) -> Tensor:
    assert node.layer is not None
    factor = run.tensors[node.layer.name].to(x.dtype)
    return x * (factor.reshape(-1, 1, 1) if x.ndim == 4 else factor.reshape(-1))


def _embed(run: Runner, node: Wired, x: Tensor) -> Tensor:
    token, learnt = (inner.layer.name for inner in node.nodes if inner.layer)
    o = node.options
    grid = Positions(learnt, int(o["side"]), float(o["offset"]), bool(o["aligned"]))
    y = x.flatten(2).transpose(1, 2).float() + run.positions(grid, x.shape[2], x.shape[3])
    ahead = run.tensors[token] + run.tensors[learnt][:, :1]
    return torch.cat((ahead.expand(len(x), -1, -1), y), 1).to(x.dtype)


def _rest(run: Runner, _: Wired, x: Tensor) -> Tensor:
    return run.mean(x[:, 1:].transpose(1, 2)[..., None]).to(x.dtype).flatten(1)


def _maxpool(_: Runner, node: Wired, x: Tensor) -> Tensor:
    o = node.options
    kernel, stride, padding = int(o["kernel"]), int(o["stride"]), int(o["padding"])
    return F.max_pool2d(x, kernel, stride, padding, ceil_mode=bool(o["ceil"]))


def _meanpool(_: Runner, node: Wired, x: Tensor) -> Tensor:
    o = node.options
    return F.avg_pool2d(x, int(o["kernel"]), int(o["stride"]), int(o["padding"]))


_RUNS: dict[str, Callable[[Runner, Wired, Tensor], Tensor]] = {
    "chain": _chain,
    "step": _single,
    "add": _add,
    "multiply": _joined(lambda results: reduce(mul, results)),
    "concat": _joined(lambda results: torch.cat(results, dim=1)),
    "norm": _norm,
    "layernorm": _layernorm,
    "scale": _scale,
    "embed": _embed,
    "attend": lambda run, node, x: run.attend(x, int(node.options["heads"])),
    "act": lambda _, node, x: ACTIVATIONS[str(node.options["function"])](x),
    "maxpool": _maxpool,
    "meanpool": _meanpool,
    "mean": lambda run, _, x: run.mean(x).to(x.dtype),
    "flat": lambda _, __, x: x.flatten(1),
    "first": lambda _, __, x: x[:, 0],
    "rest": _rest,
}
