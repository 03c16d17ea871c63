"""The score of belonging as ONNX nodes: the formula of `insight.belonging`."""

from __future__ import annotations

import math

import numpy as np

from pyflux_transfer.engines.onnx.layers import Writer
from pyflux_transfer.insight.belonging import SIGNS, SPREAD, Belonging

SCOPE = "belonging"
NONE = -1e30  # added to a logit it leaves nothing of its class


def write_belonging(
    to: Writer, belonging: Belonging, features: str, logits: str, classes: int
) -> str:
    """Write the score (N,) of what comes to the head, and of the logits before the temperature."""
    to.scope, space = SCOPE, belonging.space
    middle, deviation, usual, spread = belonging.usual
    most = SIGNS[belonging.logits].most
    rows = to.node("Flatten", features, axis=1)
    z = to.node("Sub", rows, to.constant(space.mean))
    z = to.node("Div", z, to.constant(space.scale))
    axis = to.constant([1], np.int64)
    inside = to.node("MatMul", z, to.constant(space.directions.T))
    inside = to.node("ReduceL2", inside, axis, keepdims=0)
    whole = to.node("ReduceL2", z, axis, keepdims=0)
    whole = to.node("Max", whole, to.constant(np.finfo(np.float32).tiny))
    cosine = to.node("Div", inside, whole)
    sign = _SIGNS[belonging.logits](to, logits, axis, classes)
    total = to.node(
        "Add", _deviation(to, cosine, middle, deviation, most),
        _deviation(to, sign, usual, spread, most),
    )  # fmt: skip
    score = to.node("Sigmoid", to.node("Div", total, to.constant(SPREAD)))
    to.scope = ""
    return score


def _energy(to: Writer, logits: str, axis: str, _: int) -> str:
    return to.node("ReduceLogSumExp", logits, axis, keepdims=0)


def _odds(to: Writer, logits: str, axis: str, classes: int) -> str:
    """Write the largest logit less the energy of the others."""
    best = to.node("ArgMax", logits, axis=1, keepdims=0)
    hidden = to.node("OneHot", best, to.constant([classes], np.int64), to.constant([0.0, NONE]))
    top = to.node("ReduceMax", logits, axis, keepdims=0)
    return to.node("Sub", top, _energy(to, to.node("Add", logits, hidden), axis, classes))


_SIGNS = {"odds": _odds, "energy": _energy}
assert _SIGNS.keys() == SIGNS.keys()


def _deviation(to: Writer, value: str, usual: float, spread: float, most: float) -> str:
    found = to.node("Div", to.node("Sub", value, to.constant(usual)), to.constant(spread))
    return to.node("Min", found, to.constant(most)) if math.isfinite(most) else found
