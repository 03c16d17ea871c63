"""Networks of one's own, whose layers Julia code makes: known by name, and by what their plan says.

Their units are of kind "own": any layer of Flux, with what it takes and gives and the names and
shapes of its arrays. The flux engine alone runs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn

from pyflux_transfer.errors import EngineError
from pyflux_transfer.networks.catalog import Architecture
from pyflux_transfer.networks.units import Layer, Unit

PREFIX = "julia:"


def is_own(name: str) -> bool:
    """Tell whether a name is that of a network of one's own: `julia:Metalhead.SEResNet(50)`."""
    return name.startswith(PREFIX)


def from_plan(text: str) -> Architecture:
    """Return the row of the network that a plan describes, its constructor's own head included.

    Raises KeyError, TypeError or ValueError for what is no such plan.
    """
    row = json.loads(text)
    units = tuple(_unit(each) for each in row["all"])
    if not units or not isinstance(units[-1].options["out"], int):
        raise ValueError(f"the plan of {row['own']!r} tells no outputs")
    parameters = sum(unit.parameters for unit in units)
    make = partial(tuple[Unit, ...], units)
    return Architecture(f"{PREFIX}{row['own']}", make, parameters, None, own=str(row["own"]))


def _unit(row: Mapping[str, Any]) -> Unit:
    layers = tuple(
        Layer(each["name"], each["op"], tuple(map(int, each["shape"])), bool(each["bias"]))
        for each in row["layers"]
    )
    return Unit(str(row["name"]), str(row["kind"]), str(row["stage"]), dict(row["options"]), layers)


def refuse(name: str) -> NoReturn:
    """Raise EngineError for such a network, by its name, in an engine that cannot build it."""
    call = name.removeprefix(PREFIX)
    raise EngineError(
        f"'{PREFIX}{call}' is made of Julia's layers, by {call}: the flux engine alone runs it. "
        "Use engine='flux'; where Julia is missing, first: pyflux-transfer setup"
    )
