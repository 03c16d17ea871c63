"""A block's tree as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from pyflux_transfer.engines.onnx.layers import Writer, pool_pads
from pyflux_transfer.networks.positions import resampling
from pyflux_transfer.networks.shapes import after
from pyflux_transfer.networks.tensors import Shape
from pyflux_transfer.networks.tree import Node


def write_tree(to: Writer, node: Node, x: str, shape: Shape) -> str:
    """Write a tree that takes `x` of a shape, and return its value."""
    return _OPS[node.op](to, node, x, shape)


def _chain(to: Writer, node: Node, x: str, shape: Shape) -> str:
    rest = list(node.nodes)
    while rest:
        inner = rest.pop(0)
        if inner.op == "conv" and rest and rest[0].op == "norm":
            x = _conv(to, inner, x, shape, rest.pop(0))
        else:
            x = write_tree(to, inner, x, shape)
        shape = after(inner, shape)
    return x


def _branches(to: Writer, node: Node, x: str, shape: Shape) -> list[str]:
    return [write_tree(to, inner, x, shape) for inner in node.nodes]


def _joined(op: str) -> Callable[[Writer, Node, str, Shape], str]:
    return lambda to, node, x, shape: reduce(
        lambda left, right: to.node(op, left, right), _branches(to, node, x, shape)
    )


def _concat(to: Writer, node: Node, x: str, shape: Shape) -> str:
    return to.node("Concat", *_branches(to, node, x, shape), axis=1)


def _conv(to: Writer, node: Node, x: str, shape: Shape, norm: Node | None = None) -> str:
    assert node.layer is not None
    above, left = int(node.options["above"]), int(node.options["left"])
    return to.conv(
        x, node.layer, int(node.options["stride"]), (above, left, above, left), shape[1],
        norm.layer if norm else None, float(norm.options["eps"]) if norm else 0.0,
    )  # fmt: skip


def _norm(to: Writer, node: Node, x: str, _: Shape) -> str:
    assert node.layer is not None
    return to.norm(x, node.layer, float(node.options["eps"]))


def _layernorm(to: Writer, node: Node, x: str, shape: Shape) -> str:
    assert node.layer is not None
    return to.layernorm(x, node.layer, float(node.options["eps"]), len(shape))


def _dense(to: Writer, node: Node, x: str, shape: Shape) -> str:
    assert node.layer is not None
    return to.dense(x, node.layer, len(shape))


def _scale(to: Writer, node: Node, x: str, shape: Shape) -> str:
    assert node.layer is not None
    name = node.layer.name
    factor = to.tensors[name].reshape((-1, 1, 1) if len(shape) == 4 else (-1,))
    return to.node("Mul", x, to.constant(factor, name=name))


def _embed(to: Writer, node: Node, x: str, shape: Shape) -> str:
    """The positions of this very grid are made here: the graph holds them as constants."""
    token, learnt = (to.tensors[inner.layer.name] for inner in node.nodes if inner.layer)
    o, (channels, high, wide) = node.options, shape[1:]
    side, places = int(o["side"]), learnt[:, 1:]
    if (high, wide) != (side, side):
        rows, columns = (
            resampling(side, count, offset=float(o["offset"]), aligned=bool(o["aligned"]))
            for count in (high, wide)
        )
        grid = places.reshape(side, side, channels)
        places = np.einsum("hr,wc,rcd->hwd", rows, columns, grid).reshape(1, -1, channels)
    flat = to.node("Reshape", x, to.constant([0, channels, high * wide], np.int64))
    tokens = to.node("Transpose", flat, perm=(0, 2, 1))
    tokens = to.node("Add", tokens, to.constant(places, name=f"{to.scope}/positions"))
    count = to.node("Shape", x, start=0, end=1)
    one = to.node("Concat", count, to.constant([1, channels], np.int64), axis=0)
    ahead = to.node("Expand", to.constant(token + learnt[:, :1], name=f"{to.scope}/token"), one)
    return to.node("Concat", ahead, tokens, axis=1)


def _attend(to: Writer, node: Node, x: str, shape: Shape) -> str:
    heads, width = int(node.options["heads"]), shape[2] // 3
    split = to.constant([0, 0, heads, width // heads], np.int64)
    first = to.node("Split", x, to.constant([width] * 3, np.int64), outputs=3, axis=2)
    queries, keys, values = (
        to.node("Transpose", to.node("Reshape", part, split), perm=perm)
        for part, perm in (
            (first, (0, 2, 1, 3)), (f"{first}.1", (0, 2, 3, 1)), (f"{first}.2", (0, 2, 1, 3)),
        )
    )  # fmt: skip
    queries = to.node("Mul", queries, to.constant((width // heads) ** -0.5))
    shares = to.node("Softmax", to.node("MatMul", queries, keys), axis=-1)
    mixed = to.node("Transpose", to.node("MatMul", shares, values), perm=(0, 2, 1, 3))
    return to.node("Reshape", mixed, to.constant([0, 0, width], np.int64))


def _maxpool(to: Writer, node: Node, x: str, shape: Shape) -> str:
    kernel, stride, padding = (int(node.options[name]) for name in ("kernel", "stride", "padding"))
    pads = pool_pads(shape[2:], after(node, shape)[2:], kernel, stride, padding)
    return to.maxpool(x, kernel, stride, pads)


def _meanpool(to: Writer, node: Node, x: str, _: Shape) -> str:
    kernel, stride, padding = (int(node.options[name]) for name in ("kernel", "stride", "padding"))
    return to.node(
        "AveragePool", x, kernel_shape=(kernel,) * 2, strides=(stride,) * 2, pads=(padding,) * 4,
        count_include_pad=1,
    )  # fmt: skip


def _first(to: Writer, _: Node, x: str, __: Shape) -> str:
    return to.node("Gather", x, to.constant(0, np.int64), axis=1)


def _rest(to: Writer, _: Node, x: str, shape: Shape) -> str:
    bounds = [to.constant([number], np.int64) for number in (1, shape[1], 1)]
    patches = to.node("Slice", x, *bounds)
    return to.node("ReduceMean", patches, to.constant([1], np.int64), keepdims=0)


_OPS: dict[str, Callable[[Writer, Node, str, Shape], str]] = {
    "chain": _chain,
    "add": _joined("Add"),
    "multiply": _joined("Mul"),
    "concat": _concat,
    "conv": _conv,
    "norm": _norm,
    "layernorm": _layernorm,
    "dense": _dense,
    "scale": _scale,
    "embed": _embed,
    "attend": _attend,
    "act": lambda to, node, x, _: to.act(x, str(node.options["function"])),
    "maxpool": _maxpool,
    "meanpool": _meanpool,
    "mean": lambda to, _, x, __: to.node("GlobalAveragePool", x),
    "flat": lambda to, _, x, __: to.node("Flatten", x, axis=1),
    "first": _first,
    "rest": _rest,
}
