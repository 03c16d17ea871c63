"""`pyflux-transfer summary` and `models`: the networks themselves."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pyflux_transfer.cli import catalog, completion
from pyflux_transfer.cli.options import (
    EngineOption,
    Size,
)
from pyflux_transfer.insight.summary import COLUMNS, USUAL


def register(app: typer.Typer) -> None:
    """Add `summary` and `models` to a command line."""
    app.command()(summary)
    app.command()(models)


def summary(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An architecture or a bundle.",
            autocompletion=completion.networks,
        ),
    ],
    depth: Annotated[
        int, typer.Option(help="0 the whole, 1 stages, 2 units, 3 layers.", min=0, max=3)
    ] = 2,
    columns: Annotated[str, typer.Option(help=f"Of {', '.join(COLUMNS)}.")] = ",".join(USUAL),
    batch_size: Annotated[
        int | None, typer.Option(help="Show shapes with a batch of this size.", min=1)
    ] = None,
    size: Size = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, all columns.")] = False,
    engine: EngineOption = "auto",
) -> None:
    """Show a network's layers, shapes, parameter counts, and what is trained."""
    from pyflux_transfer.classifier import load

    net = load(model, weights=None, engine=engine, precision="fp32", size=size)
    if as_json:
        rows = [row.to_json() for row in net.outline(depth, batch_size or 1)]
        print(json.dumps({"cut": net.network.cut, "rows": rows}, indent=2))
        return
    chosen = [name.strip() for name in columns.split(",") if name.strip()]
    net.summary(depth, columns=chosen, batch_size=batch_size)


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, all that is known.")] = False,
) -> None:
    """List the architectures, their sizes and weight sources."""
    if as_json:
        print(json.dumps(list(catalog.rows()), indent=2))
    else:
        catalog.models()
