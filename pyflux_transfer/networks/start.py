"""The random start of a network's weights, the same numbers for every engine."""

from __future__ import annotations

import math
from collections.abc import Iterable
from zlib import crc32

import numpy as np

from pyflux_transfer.networks.tensors import Array, Shape, State
from pyflux_transfer.networks.units import Layer, Unit


def start(units: Iterable[Unit], seed: int) -> State:
    """Draw the weights of the units: He's for convolutions, ±1/√inputs for dense layers.

    Biases are 0, norms and scales begin as the identity, tokens with a deviation of 0.02. Each
    tensor has a generator of its own, made of the seed and the name, so that another head leaves
    the numbers of the body as they are.
    """
    state: State = {}
    for layer in (layer for unit in units for layer in unit.layers):
        for name, shape in layer.tensors.items():
            drawn = layer.op in ("conv", "dense", "token") and not name.endswith("bias")
            if drawn:
                generator = np.random.default_rng([seed, crc32(name.encode())])
                state[name] = _drawn(layer, shape, generator)
            else:
                one = layer.op == "scale" or name.endswith((".weight", ".running_var"))
                state[name] = np.full(shape, float(one), np.float32)
    return state


def _drawn(layer: Layer, shape: Shape, generator: np.random.Generator) -> Array:
    if layer.op == "token":
        return generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    inputs = math.prod(shape[1:])
    if layer.op == "conv":
        values = generator.standard_normal(shape, dtype=np.float32)
        return np.multiply(values, math.sqrt(2 / inputs), out=values)
    values = generator.random(shape, dtype=np.float32)
    values -= 0.5
    return np.multiply(values, 2 / math.sqrt(inputs), out=values)
