"""A network as text, unit by unit and layer by layer: what `print` shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from pyflux_transfer.networks.units import Unit

_UNTOLD = {"in", "out", "bias", "norm", "eps"}  # said by the arrow, the layers, or nobody asks


def listing(units: Sequence[Unit], start: int, cut: int) -> Iterator[str]:
    """Yield lines of ASCII: stages, units with their numbers from `start` on, layers, counts."""
    rows = list(_rows(units, start, cut))
    width = max(len(label) for label, _, _ in rows)
    digits = max(len(f"{count:,}") for _, count, _ in rows)
    for label, count, note in rows:
        number = f"{count:,}" if count else ""
        yield f"{label:<{width}}  {number:>{digits}}  {note}".rstrip()


def _rows(units: Sequence[Unit], start: int, cut: int) -> Iterator[tuple[str, int, str]]:
    """Yield a label, a count of parameters and a note for each line."""
    digits = len(str(start + len(units) - 1))
    for stage, group in groupby(enumerate(units, start), key=lambda item: item[1].stage):
        yield stage, 0, ""
        for index, unit in group:
            note = "trained" if index >= cut and unit.layers else ""
            alone = [layer.name for layer in unit.layers] == [unit.name]
            yield f"  {index:>{digits}} {unit.name}: {described(unit)}", unit.parameters, note
            for layer in () if alone else unit.layers:
                shape = "x".join(map(str, layer.shape))
                sizes = layer.tensors.items()
                count = sum(math.prod(s) for name, s in sizes if ".running_" not in name)
                yield f"  {'':>{digits}}   {layer.name}: {layer.op} {shape}", count, ""


def described(unit: Unit) -> str:
    """Return a unit's kind and numbers: `conv(3 -> 64, kernel=7, stride=2)`."""
    options = {k: v for k, v in unit.options.items() if isinstance(v, (int, float, str))}
    told = [
        f"{name}={value}"
        for name, value in options.items()
        if name not in _UNTOLD and value not in (False, "none")
    ]
    if "in" in options:
        told.insert(0, f"{options['in']} -> {options['out']}" if "out" in options
                    else f"in={options['in']}")  # fmt: skip
    return f"{unit.kind}({', '.join(told)})" if told else unit.kind
