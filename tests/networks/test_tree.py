"""Blocks as trees: the layers they hold, in order, and the shapes that pass through."""

from __future__ import annotations

import pytest

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.shapes import after, trace
from pyflux_transfer.networks.tree import (
    IDENTITY,
    Node,
    act,
    add,
    block,
    chain,
    concat,
    conv,
    dense,
    embed,
    first,
    leaves,
    maxpool,
    mean,
    meanpool,
    multiply,
    norm,
    scale,
)


def test_leaves_come_in_the_order_of_computation() -> None:
    tree = chain(
        conv("a", 3, 8, 3),
        concat(chain(norm("b", 8), conv("c", 8, 4, 1)), IDENTITY, conv("d", 8, 4, 1)),
        add(IDENTITY, dense("e", 16, 16)),
    )
    assert [layer.name for layer in leaves(tree)] == ["a", "b", "c", "d", "e"]


def test_chains_in_chains_are_opened_and_others_are_not() -> None:
    inner = concat(chain(act("relu"), mean()), IDENTITY)
    tree = chain(chain(act("relu"), chain(inner)), IDENTITY, mean())
    assert [node.op for node in tree.nodes] == ["act", "concat", "mean"]
    assert inner.nodes[0].op == "chain"


def test_a_block_tells_its_layers_and_its_ends() -> None:
    unit = block("b", "stage", 3, 8, conv("b.0", 3, 8, (1, 7), padding=(0, 3), bias=True),
                 norm("b.1", 8), mean(), dense("b.2", 8, 8), ends=2)  # fmt: skip
    assert unit.options == {"in": 3, "out": 8, "axes": 4, "ends": 2}
    assert unit.tensors == {
        "b.0.weight": (8, 3, 1, 7), "b.0.bias": (8,),
        "b.1.weight": (8,), "b.1.bias": (8,), "b.1.running_mean": (8,), "b.1.running_var": (8,),
        "b.2.weight": (8, 8), "b.2.bias": (8,),
    }  # fmt: skip
    assert unit.statistics == 16


def test_tensors_without_a_leaf_and_with_a_joint_of_their_own() -> None:
    tree = chain(
        scale("gamma", 8, 1, 1),
        embed("token", "position", 2, 8),
        dense("in_proj", 8, 24, joint="_"),
    )
    named = [list(layer.tensors) for layer in leaves(tree)]
    assert named == [["gamma"], ["token"], ["position"], ["in_proj_weight", "in_proj_bias"]]


@pytest.mark.parametrize(
    ("node", "shape", "expected"),
    [
        (conv("c", 8, 12, 3, stride=2, padding=1), (2, 8, 7, 10), (2, 12, 4, 5)),
        (conv("c", 8, 8, (7, 1), padding=(3, 0), groups=8), (2, 8, 5, 6), (2, 8, 5, 6)),
        (maxpool(3, 2, ceil=True), (1, 4, 6, 7), (1, 4, 3, 3)),
        (meanpool(2, 2), (1, 4, 7, 5), (1, 4, 3, 2)),
        (concat(IDENTITY, conv("c", 8, 3, 1)), (2, 8, 5, 5), (2, 11, 5, 5)),
        (multiply(IDENTITY, mean()), (2, 8, 5, 6), (2, 8, 5, 6)),
        (multiply(mean(), IDENTITY), (2, 8, 5, 6), (2, 8, 5, 6)),
        (embed("t", "p", 3, 8), (2, 8, 4, 5), (2, 21, 8)),
        (chain(dense("d", 8, 24), first()), (2, 9, 8), (2, 24)),
    ],
)
def test_shapes(node: Node, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert after(node, shape) == expected


@pytest.mark.parametrize(
    "body",
    [
        conv("b.0", 3, 3, 5),
        # What padding, a mean or another branch would hide again.
        chain(conv("b.0", 3, 3, 5), conv("b.1", 3, 3, 3, padding=2)),
        chain(meanpool(5, 5), mean()),
        concat(IDENTITY, maxpool(5, 1)),
    ],
)
def test_an_image_too_small_names_the_unit(body: Node) -> None:
    units = [block("good", "body", 3, 3, act("relu")), block("bad", "body", 3, 3, body)]
    with pytest.raises(InputError, match=r"Unit 'bad' cannot take .* too small"):
        trace(units, (1, 3, 4, 4))
