"""What published files of transformers hold otherwise than the networks of today."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.networks.tensors import State
from pyflux_transfer.networks.units import Unit, tensors

# torchvision's name before 0.14 → now (https://github.com/pytorch/vision/pull/6053)
_OLD_MLP = {".mlp.linear_1.": ".mlp.0.", ".mlp.linear_2.": ".mlp.3."}
_FOR_PRETRAINING = "mask_token"  # DINOv2's; nothing reads it in evaluation


def transformers(state: State, units: Sequence[Unit]) -> State:
    """Return the tensors by today's names, without what only pretraining used."""
    wanted = tensors(units)
    if "cls_token" in wanted and _FOR_PRETRAINING in state:
        return {name: value for name, value in state.items() if name != _FOR_PRETRAINING}
    if "class_token" in wanted and any(old in name for name in state for old in _OLD_MLP):
        return {_today(name): value for name, value in state.items()}
    return state


def _today(name: str) -> str:
    for old, new in _OLD_MLP.items():
        name = name.replace(old, new)
    return name
