"""What a classifier is made of, and what it must be for the things that are done with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pyflux_transfer import engines
from pyflux_transfer.engines.base import Network, Plan, Precision
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.belonging import Belonging
from pyflux_transfer.networks.preprocessing import Preprocessing

_REMEDY = "Give it {} for yours: net.with_head(['ants', 'bees'])."


@dataclass
class Model:
    """A network, the names of its classes, and all that belongs to it."""

    network: Network
    plan: Plan
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    engine: str  # which engine was chosen, and why
    info: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0  # which logits are divided by; 1 after training by steps
    belonging: Belonging | None = None  # what tells photos that are none of the classes
    headless: bool = False  # the weights brought no head for these classes: it is random


def refuse_imagenet(model: Model) -> None:
    """Raise InputError for a network without a head of its own."""
    if model.plan.head is None and not model.plan.architecture.own:
        raise InputError(
            f"This network still has its 1000 ImageNet classes. {_REMEDY.format('a head')}"
        )


def refuse_headless(model: Model) -> None:
    """Raise InputError for a network whose head is random."""
    if model.headless:
        raise InputError(
            "The weights of this network came without a head for its 1000 ImageNet classes. "
            f"{_REMEDY.format('one')}"
        )


def compute_in(model: Model, precision: Precision) -> None:
    """Build the network anew with another precision and the same weights."""
    plan = replace(model.plan, precision=precision)
    network = engines.build(model.network.engine, replace(plan, seed=None))
    network.load_state(model.network.state())
    network.cut_at(model.network.cut)
    model.network, model.plan = network, plan
