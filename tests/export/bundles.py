"""Bundles of small networks with seeded weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pyflux_transfer.bundle import Bundle
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.networks.catalog import Architecture
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.units import tensors
from tests.engines.seeded import seeded


def bundle(
    row: Architecture, head: Head | None = None, classes: tuple[str, ...] = (), **image: Any
) -> Bundle:
    """Return a bundle whose answers are far from sure and from even."""
    plan = Plan(row, head)
    names = classes or tuple(f"class {i}" for i in range(plan.classes))
    state = seeded(row.name, tensors(plan.units))
    how = replace(row.preprocessing, **image)
    return Bundle(row.name, names, head, how, 0, state, {"weights": "none"}, 1.5)
