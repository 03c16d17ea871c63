"""The score of belonging as ONNX nodes: the formula of `insight.belonging`."""

from __future__ import annotations

import numpy as np

from pyflux_transfer.engines.onnx.layers import Writer
from pyflux_transfer.insight.belonging import SPREAD, Belonging

SCOPE = "belonging"


def write_belonging(to: Writer, belonging: Belonging, features: str, logits: str) -> str:
    """Write the score (N,) of what comes to the head, and of the logits before the temperature."""
    to.scope, space = SCOPE, belonging.space
    middle, deviation, usual, spread = belonging.usual
    rows = to.node("Flatten", features, axis=1)
    z = to.node("Sub", rows, to.constant(space.mean))
    z = to.node("Div", z, to.constant(space.scale))
    axis = to.constant([1], np.int64)
    inside = to.node("MatMul", z, to.constant(space.directions.T))
    inside = to.node("ReduceL2", inside, axis, keepdims=0)
    whole = to.node("ReduceL2", z, axis, keepdims=0)
    whole = to.node("Max", whole, to.constant(np.finfo(np.float32).tiny))
    total = _deviation(to, to.node("Div", inside, whole), middle, deviation)
    energy = to.node("ReduceLogSumExp", logits, axis, keepdims=0)
    total = to.node("Add", total, _deviation(to, energy, usual, spread))
    score = to.node("Sigmoid", to.node("Div", total, to.constant(SPREAD)))
    to.scope = ""
    return score


def _deviation(to: Writer, value: str, usual: float, spread: float) -> str:
    return to.node("Div", to.node("Sub", value, to.constant(usual)), to.constant(spread))
