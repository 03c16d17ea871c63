"""Names in published files, where they are not those of torchvision's networks today."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pyflux_transfer.networks.tensors import State
from pyflux_transfer.networks.units import Unit


def as_torchvision(state: State, units: Sequence[Unit]) -> State:
    """Return the tensors by the names of the units, without what belongs to no unit.

    What is known of a file's publisher is put right; other names stay, for `check_state` to refuse.
    """
    for rule in _RULES:
        state = rule(state, units)
    return state


# --- EfficientNet-Lite0: the package that carries its weights has names of its own -------------


def _lite0(state: State, units: Sequence[Unit]) -> State:
    if "_conv_stem.weight" not in state:
        return state
    names = lite0_names(units)

    def ours(name: str) -> str:
        layer, leaf = name.rsplit(".", 1)
        return f"{names.get(layer, layer)}.{leaf}"

    return {ours(name): value for name, value in state.items()}


def lite0_names(units: Sequence[Unit]) -> dict[str, str]:
    """Pair the package's names of layers with ours."""
    stem, *_, last, _, _, _, classifier = units
    pairs = dict(zip(("_conv_stem", "_bn0"), stem.layers, strict=True))
    pairs |= dict(zip(("_conv_head", "_bn1"), last.layers, strict=True))
    pairs["_fc"] = classifier.layers[0]
    leaves = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    for index, unit in enumerate(unit for unit in units if unit.kind == "inverted"):
        theirs = (f"_blocks.{index}.{leaf}" for leaf in leaves[-len(unit.layers) :])
        pairs |= dict(zip(theirs, unit.layers, strict=True))
    return {theirs: layer.name for theirs, layer in pairs.items()}


# --- DenseNet: torchvision wrote "norm.1" where it has "norm1" now -------------------------------

_OLD_DENSE = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)$")


def _densenet(state: State, _: Sequence[Unit]) -> State:
    if not any(_OLD_DENSE.match(name) for name in state):
        return state
    return {_OLD_DENSE.sub(r"\1\2", name): value for name, value in state.items()}


# --- Inception: auxiliary classifiers, which served the training from scratch only ---------------

_AUXILIARY = {"aux1": "inception4a", "aux2": "inception4d", "AuxLogits": "Mixed_6e"}  # → its unit


def _auxiliary(state: State, units: Sequence[Unit]) -> State:
    names = {unit.name for unit in units}
    roots = {root for root, behind in _AUXILIARY.items() if behind in names}
    if not any(name.split(".")[0] in roots for name in state):
        return state
    return {name: value for name, value in state.items() if name.split(".")[0] not in roots}


_RULES: tuple[Callable[[State, Sequence[Unit]], State], ...] = (_lite0, _densenet, _auxiliary)
