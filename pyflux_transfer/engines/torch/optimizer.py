"""How a step changes the tail: PyTorch's own update rules over plain tensors.

The rules are called as functions. The classes around them import PyTorch's compiler at their
first use, which takes longer than training a head on cached features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from pyflux_transfer.engines.base import Update, check_rates
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import State

Slots = dict[str, dict[str, Tensor]]  # slot → name → tensor
Rule = Callable[[Update, Sequence[Tensor], Sequence[Sequence[Tensor]], int, float], None]


def _adaptive(
    update: Update,
    values: Sequence[Tensor],
    slots: Sequence[Sequence[Tensor]],
    done: int,
    rate: float,
) -> None:
    rule = adamw if update.optimizer == "adamw" else adam
    first, second = update.betas
    steps = torch.full((len(values),), float(done), device=values[0].device).unbind()
    rule(
        list(values), [_gradient(v) for v in values], list(slots[0]), list(slots[1]), [],
        list(steps), fused=True, amsgrad=False, beta1=first, beta2=second, lr=rate,
        weight_decay=update.weight_decay, eps=update.eps, maximize=False,
    )  # fmt: skip


def _sgd(
    update: Update,
    values: Sequence[Tensor],
    slots: Sequence[Sequence[Tensor]],
    done: int,  # noqa: ARG001
    rate: float,
) -> None:
    sgd(
        list(values), [_gradient(v) for v in values], list(slots[0]), fused=True,
        weight_decay=update.weight_decay, momentum=update.momentum, lr=rate,
        dampening=0.0, nesterov=False, maximize=False,
    )  # fmt: skip


# name → what it remembers of each parameter, and the rule
_RULES: dict[str, tuple[tuple[str, ...], Rule]] = {
    "adamw": (("exp_avg", "exp_avg_sq"), _adaptive),
    "adam": (("exp_avg", "exp_avg_sq"), _adaptive),
    "sgd": (("momentum_buffer",), _sgd),
}


class Optimizer:
    """Updates parameters in place, each group (a stage) at a rate of its own.

    `groups` gives the names of each group; what is remembered starts at zero.
    """

    def __init__(
        self, update: Update, tensors: Mapping[str, Tensor], groups: Mapping[str, Sequence[str]]
    ) -> None:
        self.count = 0
        self._update = update
        self._tensors = tensors
        self._groups = {stage: names for stage, names in groups.items() if names}
        slots, self._rule = _RULES[update.optimizer]
        names = [name for group in groups.values() for name in group]
        self._slots: Slots = {
            slot: {name: torch.zeros_like(tensors[name]) for name in names} for slot in slots
        }

    def step(self, rates: Mapping[str, float]) -> None:
        """Update the parameters from their gradients; raise InputError where a rate is missing."""
        with torch.no_grad():
            for stage, names in self._groups.items():
                values = [self._tensors[name] for name in names]
                slots = [[slot[name] for name in names] for slot in self._slots.values()]
                self._rule(self._update, values, slots, self.count, rates[stage])
        self.count += 1

    def check_rates(self, rates: Mapping[str, float]) -> None:
        """Refuse rates that lack one of the groups, or are no finite numbers from 0."""
        check_rates(rates, tuple(self._groups))

    def state(self) -> State:
        """Return copies of what is remembered, as `slot/name`, and the count of steps."""
        arrays = {
            f"{slot}/{name}": value.numpy(force=True).copy()
            for slot, values in self._slots.items()
            for name, value in values.items()
        }
        return {"step": np.asarray(self.count, np.float32), **arrays}

    def load(self, state: State) -> None:
        """Replace what is remembered; everything is compared before the first write."""
        wanted = {
            f"{slot}/{name}": value
            for slot, values in self._slots.items()
            for name, value in values.items()
        }
        different = sorted({"step", *wanted} ^ set(state))
        different += [n for n in wanted if n in state and state[n].shape != tuple(wanted[n].shape)]
        if different:
            raise InputError(
                f"This optimizer state belongs to another optimizer, cut or network: "
                f"'{different[0]}' does not fit. Use the one saved with these settings."
            )
        for name, value in wanted.items():
            value.copy_(torch.tensor(state[name]))
        self.count = int(state["step"])


def _gradient(value: Tensor) -> Tensor:
    if value.grad is None:
        raise AssertionError("a parameter of the tail took no part in the loss")
    return value.grad
