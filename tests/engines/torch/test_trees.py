"""Blocks as trees over PyTorch: what is fused computes what stands there, node by node."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.engines.torch import convolution
from pyflux_transfer.engines.torch.fast import FastRunner
from pyflux_transfer.engines.torch.kinds import Block, TrainRunner, forward
from pyflux_transfer.engines.torch.kinds import block as as_block
from pyflux_transfer.engines.torch.trees import steps, wired
from pyflux_transfer.errors import EngineError
from pyflux_transfer.networks.shapes import after
from pyflux_transfer.networks.tree import (
    ACTIVATIONS,
    IDENTITY,
    Node,
    act,
    add,
    attend,
    block,
    chain,
    concat,
    conv,
    dense,
    embed,
    first,
    flat,
    layernorm,
    leaves,
    maxpool,
    mean,
    meanpool,
    multiply,
    norm,
    scale,
)
from pyflux_transfer.networks.units import Layer

torch.set_num_threads(1)

Tensors = dict[str, Tensor]


def drawn(node: Node) -> Tensors:
    """Random tensors for all layers of a tree."""
    generator = torch.Generator().manual_seed(0)
    found: Tensors = {}
    for layer in leaves(node):
        for name, shape in layer.tensors.items():
            fan = max(1, int(np.prod(shape[1:])))
            value = torch.randn(shape, generator=generator) / fan**0.5
            found[name] = value.abs() + 0.5 if name.endswith("running_var") else value
    return found


def literal(node: Node, x: Tensor, tensors: Tensors) -> Tensor:
    """Compute a tree one node after another, with PyTorch's own functions."""
    o: Any = node.options
    if node.op == "embed":
        token, position = (tensors[n.layer.name] for n in node.nodes if n.layer)
        return torch.cat((token.expand(len(x), -1, -1), x.flatten(2).mT), 1) + position
    inner = [] if node.op == "chain" else [literal(n, x, tensors) for n in node.nodes]
    joined = {
        "chain": lambda: reduce(lambda y, n: literal(n, y, tensors), node.nodes, x),
        "add": lambda: sum(inner[1:], inner[0]),
        "multiply": lambda: reduce(torch.mul, inner),
        "concat": lambda: torch.cat(inner, 1),
        "act": lambda: _FUNCTIONS[o["function"]](x),
        "maxpool": lambda: F.max_pool2d(x, o["kernel"], o["stride"], o["padding"],
                                        ceil_mode=o["ceil"]),
        "meanpool": lambda: F.avg_pool2d(x, o["kernel"], o["stride"], o["padding"]),
        "mean": lambda: F.adaptive_avg_pool2d(x, 1),
        "flat": lambda: x.flatten(1),
        "first": lambda: x[:, 0],
        "attend": lambda: _attended(x, o["heads"]),
    }  # fmt: skip
    return joined[node.op]() if node.layer is None else _layer(node.layer, o, x, tensors)


def _layer(layer: Layer, o: Any, x: Tensor, tensors: Tensors) -> Tensor:
    weight, *more = (tensors[name] for name in layer.tensors)
    if layer.op == "conv":
        pad = (o["above"], o["left"])
        return F.conv2d(x, weight, *more, stride=o["stride"], padding=pad, groups=o["groups"])
    if layer.op == "norm":
        bias, mean, var = more
        return F.batch_norm(x, mean, var, weight, bias, eps=o["eps"])
    last = x.movedim(1, -1) if x.ndim == 4 else x
    if layer.op == "dense":
        last = F.linear(last, weight, *more)
    elif layer.op == "layernorm":
        last = F.layer_norm(last, weight.shape, weight, *more, eps=o["eps"])
    else:
        last = last * weight.flatten()
    return last.movedim(-1, 1) if x.ndim == 4 else last


def _attended(x: Tensor, heads: int) -> Tensor:
    size = x.shape[2] // 3 // heads
    parts = [
        torch.softmax(q @ k.mT / size**0.5, -1) @ v
        for q, k, v in zip(*(part.split(size, 2) for part in x.chunk(3, 2)), strict=True)
    ]
    return torch.cat(parts, 2)


_FUNCTIONS = {
    "relu": torch.relu, "relu6": F.relu6, "gelu": F.gelu, "tanh": torch.tanh, "silu": F.silu,
    "sigmoid": torch.sigmoid, "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid,
}  # fmt: skip

IMAGES, TOKENS = (2, 8, 9, 6), (2, 5, 8)
EXCITED = multiply(IDENTITY, chain(mean(), conv("s1", 8, 4, 1, bias=True), act("silu"),
                                   conv("s2", 4, 8, 1, bias=True), act("sigmoid")))  # fmt: skip
CASES: dict[str, tuple[Node, tuple[int, ...]]] = {
    "conv": (conv("a", 8, 12, 3, stride=2, padding=1, groups=4), IMAGES),
    "conv of two sides": (conv("a", 8, 12, (1, 5), padding=(0, 2), bias=True), IMAGES),
    "conv, norm, act": (chain(conv("a", 8, 8, 3), norm("b", 8, 1e-3), act("silu")), IMAGES),
    "conv, scale, act": (chain(conv("a", 8, 8, 1), scale("b", 8, 1, 1), act("gelu")), IMAGES),
    "conv, act, norm": (chain(conv("a", 8, 8, 3), act("relu"), norm("b", 8)), IMAGES),
    "conv, norm, norm": (chain(conv("a", 8, 8, 3), norm("b", 8), norm("c", 8)), IMAGES),
    "norm, act, conv": (chain(norm("a", 8), act("relu"), conv("b", 8, 4, 1)), IMAGES),
    "norm, hardswish": (chain(norm("a", 8), act("hardswish")), IMAGES),
    "norm alone in a branch": (add(norm("a", 8), IDENTITY), IMAGES),
    "shortcut": (add(IDENTITY, chain(conv("a", 8, 8, 1), norm("b", 8))), IMAGES),
    "shortcut, act": (chain(add(IDENTITY, conv("a", 8, 8, 1)), act("silu")), IMAGES),
    "shortcut behind an act": (add(IDENTITY, chain(conv("a", 8, 8, 1), act("silu"))), IMAGES),
    "shortcut behind an act, act": (
        chain(add(IDENTITY, chain(conv("a", 8, 8, 1), act("silu"))), act("relu")), IMAGES,
    ),
    "two convolutions": (chain(add(conv("a", 8, 4, 1), conv("b", 8, 4, 1)), act("relu")), IMAGES),
    "three branches": (add(conv("a", 8, 8, 1), IDENTITY, chain(act("tanh"), act("relu"))), IMAGES),
    "sum of nothing to learn, act": (chain(add(IDENTITY, act("tanh")), act("relu")), IMAGES),
    "excitation": (chain(EXCITED, conv("a", 8, 4, 1)), IMAGES),
    "dense layer": (concat(IDENTITY, chain(norm("a", 8), act("relu"), conv("b", 8, 4, 1))), IMAGES),
    "branches": (concat(conv("a", 8, 4, 1), chain(meanpool(3, 1, 1), conv("b", 8, 4, 1)),
                        maxpool(3, 1, 1)), IMAGES),
    "pools": (chain(maxpool(3, 2, ceil=True), meanpool(2, 2)), IMAGES),
    "layernorm, dense": (chain(layernorm("a", 8), dense("b", 8, 16), act("gelu")), IMAGES),
    "mean, flat, dense": (chain(mean(), flat(), dense("a", 8, 3), act("tanh")), IMAGES),
    "tokens": (chain(embed("a", "b", 3, 8), layernorm("c", 8), dense("d", 8, 24), attend(2),
                     add(IDENTITY, chain(dense("e", 8, 8), scale("f", 8))), first()), (2, 8, 3, 3)),
    "attention": (chain(dense("a", 8, 24), attend(4)), TOKENS),
    **{name: (chain(conv("a", 8, 8, 1), act(name)), IMAGES) for name in ACTIVATIONS},
}  # fmt: skip


def made(node: Node, shape: tuple[int, ...]) -> Block:
    ends = after(node, shape)
    unit = block("b", "body", 8, ends[2 if len(ends) == 3 else 1], node, axes=len(shape),
                 ends=len(ends))  # fmt: skip
    return as_block(unit)


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_a_tree_computes_what_stands_there(
    name: str, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "_has_onednn", lambda: onednn)
    node, shape = CASES[name]
    tensors = drawn(node)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    given = x.clone()
    expected = literal(node, x, tensors)
    assert tuple(expected.shape) == after(node, shape)
    one = made(node, shape)
    with torch.inference_mode():
        plain = forward(TrainRunner(tensors), [one], x)
    fast = FastRunner(tensors, torch.float32).run([one], x)
    for found in (plain, fast):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(x, given)


@pytest.mark.parametrize(
    ("name", "found"),
    [("conv, norm, act", [("a", "b", "silu")]), ("conv, act, norm", [("a", None, "relu")]),
     ("conv, norm, norm", [("a", "b", "none")]), ("norm, act, conv", [("b", None, "none")]),
     ("shortcut, act", [("a", None, "silu")]), ("shortcut behind an act", [("a", None, "silu")]),
     ("two convolutions", [("a", None, "none"), ("b", None, "relu")])],
)  # fmt: skip
def test_what_follows_a_convolution_becomes_part_of_its_step(
    name: str, found: list[tuple[str, str | None, str]]
) -> None:
    seen = [
        (step.layer.name, step.norm and step.norm.name, step.activation)
        for step in steps(wired(CASES[name][0]))
    ]
    assert seen == found


def test_a_norm_with_new_statistics_is_prepared_again() -> None:
    node, shape = CASES["norm, act, conv"]
    tensors, one = drawn(node), made(node, shape)
    runner, x = FastRunner(tensors, torch.float32), torch.ones(shape)
    before = runner.run([one], x)
    tensors["a.running_mean"] += 3
    assert torch.equal(runner.run([one], x), before)
    runner.forget([one])
    torch.testing.assert_close(runner.run([one], x), literal(node, x, tensors))


@pytest.mark.parametrize("node", [conv("a", 8, 8, 5), chain(meanpool(5, 5), mean())])
def test_an_image_too_small_names_the_unit(node: Node) -> None:
    unit = block("b", "body", 8, 8, node)
    runner = FastRunner(drawn(node), torch.float32)
    with pytest.raises(EngineError, match=r"Unit 'b' failed on input \(1, 8, 3, 3\)"):
        runner.run([as_block(unit)], torch.ones(1, 8, 3, 3))


def test_a_norms_statistics_move_by_its_own_momentum() -> None:
    node = norm("n", 4, momentum=0.01)
    tensors = {
        "n.weight": torch.ones(4), "n.bias": torch.zeros(4),
        "n.running_mean": torch.zeros(4), "n.running_var": torch.ones(4),
    }  # fmt: skip
    unit = block("u", "s", 4, 4, node)
    forward(TrainRunner(tensors, training=True), [as_block(unit)], torch.full((2, 4, 3, 3), 5.0))
    assert torch.allclose(tensors["n.running_mean"], torch.full((4,), 0.05))
