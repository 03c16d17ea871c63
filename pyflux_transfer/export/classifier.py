"""A bundle's whole graph: pixels or a batch in, probabilities out."""

from __future__ import annotations

from typing import Literal

import numpy as np
from onnx import ModelProto

from pyflux_transfer.bundle import Bundle
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.onnx.graph import Value
from pyflux_transfer.engines.onnx.layers import Writer
from pyflux_transfer.engines.onnx.units import write_units
from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.export.belonging import write_belonging
from pyflux_transfer.export.facts import INPUTS, about, facts
from pyflux_transfer.export.pixels import IMAGE, write_pixels
from pyflux_transfer.networks.shapes import trace
from pyflux_transfer.networks.units import resolve_cut

Input = Literal["image", "tensor"]
BATCH, LOGITS, ANSWER = "images", "logits", "probabilities"
SCORE = "belonging"


def model(bundle: Bundle, given: Input = "image", answer: str = ANSWER) -> ModelProto:
    """Return a bundle's graph.

    With "image" it takes one photo (height, width, 3) uint8 of any size and prepares it, with
    "tensor" prepared batches (N, 3, crop, crop) float32. It gives probabilities (N, classes), or as
    `answer` the logits of which these are made; beside the probabilities the belonging (N,), where
    the bundle has learnt it.
    Raises InputError for weights that one file cannot hold, and layers of one's own in Julia.
    """
    if bundle.own:
        raise InputError(
            f"'{bundle.own.name}' is made of Julia's layers, which cannot be exported. Train a "
            "network of the catalog (see: pyflux-transfer models)."
        )
    lookup(dict.fromkeys(INPUTS), given, "input")
    to, side = Writer(bundle.state), bundle.preprocessing.crop
    x = write_pixels(to, bundle.preprocessing) if given == "image" else BATCH
    units, shape = Plan(bundle.row, bundle.head).units, (1, 3, side, side)
    head = resolve_cut(units, "head")
    x = write_units(to, units[:head], x, shape)
    logits = write_units(to, units[head:], x, trace(units, shape)[head].input)
    count: int | str = 1 if given == "image" else "N"
    told: list[Value] = [(answer, np.float32, (count, len(bundle.classes)))]
    if bundle.belonging and answer == ANSWER:
        score = write_belonging(to, bundle.belonging, x, logits, len(bundle.classes))
        to.rename(score, SCORE)
        told.append((SCORE, np.float32, (count,)))
    if answer == ANSWER:
        logits = to.node("Div", logits, to.constant(bundle.temperature, name="temperature"))
        logits = to.node("Softmax", logits, axis=-1)
    to.rename(logits, answer)
    taken: Value = (BATCH, np.float32, ("N", 3, side, side))
    if given == "image":
        taken = (IMAGE, np.uint8, ("height", "width", 3))
    return to.model(taken, told, facts(bundle, given), about(bundle, given))
