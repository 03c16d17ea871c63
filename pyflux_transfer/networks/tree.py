"""Blocks as trees: what a unit of kind "block" computes, in operations that every engine knows.

A new family of networks is a file in `families/`; it needs nothing in an engine unless it brings a
new operation. Each function here makes one node:

- `chain`, `add`, `multiply`, `concat` join nodes: one after another, or side by side on the same
  input. A chain of none is the identity.
- `conv`, `norm`, `layernorm`, `dense`, `scale`, `embed` hold parameters.
- `act`, `maxpool`, `meanpool`, `mean`, `attend`, `first`, `rest`, `flat` hold nothing.

Images are (N, C, H, W), tokens (N, T, D), vectors (N, D).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pyflux_transfer.networks.units import Layer, Option, Unit

ACTIVATIONS = ("relu", "relu6", "gelu", "tanh", "silu", "sigmoid", "hardswish", "hardsigmoid")


@dataclass(frozen=True)
class Node:
    """One operation of a block, with its numbers, the layer it holds, the nodes it joins."""

    op: str
    options: dict[str, Option] = field(default_factory=dict)
    layer: Layer | None = None
    nodes: tuple[Node, ...] = ()


def leaves(node: Node) -> Iterator[Layer]:
    """Yield the layers of a tree in order of computation, branch after branch."""
    if node.layer is not None:
        yield node.layer
    for inner in node.nodes:
        yield from leaves(inner)


def block(
    name: str,
    stage: str,
    inputs: int,
    outputs: int,
    *nodes: Node,
    axes: int = 4,
    ends: int = 4,
    multiple: int = 1,
) -> Unit:
    """Return a unit that runs the nodes one after another.

    `axes` and `ends` count the axes of what it takes and gives: 4 for images, 3 for tokens, 2 for
    vectors; `inputs` and `outputs` are the channels of images, the width of tokens and vectors.
    The sides of its images must be divisible by `multiple`.
    """
    body = chain(*nodes)
    options: dict[str, Option] = {"in": inputs, "out": outputs, "axes": axes, "ends": ends}
    if multiple > 1:
        options["multiple"] = multiple
    return Unit(name, "block", stage, options, tuple(leaves(body)), body)


# --- nodes that join others ---------------------------------------------------------------------


def chain(*nodes: Node) -> Node:
    """One node after another; chains among them are opened."""
    opened = [inner for node in nodes for inner in (node.nodes if node.op == "chain" else (node,))]
    return Node("chain", nodes=tuple(opened))


IDENTITY = chain()


def add(*branches: Node) -> Node:
    """The sum of the branches."""
    return Node("add", nodes=branches)


def multiply(*branches: Node) -> Node:
    """The product of the branches; (N, C, 1, 1) weighs the channels of images."""
    return Node("multiply", nodes=branches)


def concat(*branches: Node) -> Node:
    """The channels of the branches side by side."""
    return Node("concat", nodes=branches)


# --- nodes with a layer -------------------------------------------------------------------------


def conv(
    name: str,
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    bias: bool = False,
) -> Node:
    """Convolution; kernel and padding are of both axes, or of the rows and the columns."""
    rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    above, left = padding if isinstance(padding, tuple) else (padding, padding)
    layer = Layer(name, "conv", (outputs, inputs // groups, rows, columns), bias)
    options: dict[str, Option] = {
        "stride": stride, "above": above, "left": left, "groups": groups,
    }  # fmt: skip
    return Node("conv", options, layer)


def norm(name: str, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> Node:
    """BatchNorm (Ioffe & Szegedy 2015); `momentum` as PyTorch counts it, as in `Layer`."""
    layer = Layer(name, "norm", (channels,), bias=True, momentum=momentum)
    return Node("norm", {"eps": eps}, layer)


def layernorm(name: str, width: int, eps: float = 1e-6) -> Node:
    """LayerNorm (Ba, Kiros & Hinton 2016) over the channels, at each place by itself."""
    return Node("layernorm", {"eps": eps}, Layer(name, "layernorm", (width,), bias=True))


def dense(name: str, inputs: int, outputs: int, *, joint: str = ".") -> Node:
    """Affine layer over the channels, at each place by itself; `joint` as in `Layer`."""
    return Node("dense", {}, Layer(name, "dense", (outputs, inputs), bias=True, joint=joint))


def scale(name: str, *shape: int) -> Node:
    """A factor for each channel (Touvron et al. 2021); the tensor is called `name`."""
    return Node("scale", {}, Layer(name, "scale", shape, bias=False))


def embed(
    token: str, position: str, side: int, width: int, *, offset: float = 0.0, aligned: bool = False
) -> Node:
    """(N, C, H, W) → (N, 1 + H·W, C): a learnt token, then the places row by row; adds positions.

    `token` (1, 1, C) and `position` (1, 1 + side², C) name the tensors. Where the grid is not
    `side` × `side` the positions are interpolated by `networks.positions`.
    """
    held = ((token, (1, 1, width)), (position, (1, side * side + 1, width)))
    nodes = [Node("token", layer=Layer(name, "token", shape, bias=False)) for name, shape in held]
    options: dict[str, Option] = {"side": side, "offset": offset, "aligned": aligned}
    return Node("embed", options, nodes=tuple(nodes))


# --- nodes with nothing to learn ----------------------------------------------------------------


def act(name: str) -> Node:
    """One of `ACTIVATIONS`, element by element; gelu is the exact one."""
    return Node("act", {"function": name})


def maxpool(kernel: int, stride: int, padding: int = 0, *, ceil: bool = False) -> Node:
    """Max pooling; `ceil` keeps a last window that hangs over the border."""
    return Node(
        "maxpool", {"kernel": kernel, "stride": stride, "padding": padding, "ceil": ceil}
    )  # fmt: skip


def meanpool(kernel: int, stride: int, padding: int = 0) -> Node:
    """Mean pooling; the zeros of the padding count."""
    return Node("meanpool", {"kernel": kernel, "stride": stride, "padding": padding})


def mean() -> Node:
    """The mean of each channel: (N, C, H, W) → (N, C, 1, 1)."""
    return Node("mean")


def flat() -> Node:
    """(N, C, H, W) → (N, C·H·W)."""
    return Node("flat")


def attend(heads: int) -> Node:
    """Softmax attention (Vaswani et al. 2017) of queries, keys, values (N, T, 3·D) → (N, T, D)."""
    return Node("attend", {"heads": heads})


def first() -> Node:
    """The first token: (N, T, D) → (N, D)."""
    return Node("first")


def rest() -> Node:
    """The mean of the tokens behind the first: (N, T, D) → (N, D)."""
    return Node("rest")
