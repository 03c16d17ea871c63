"""`pyflux-transfer demo`: real images and real weights, no download needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyflux_transfer.cli.options import EngineOption


def register(app: typer.Typer) -> None:
    """Add `demo` to a command line."""
    app.command()(demo)


def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write.")] = Path(
        "demo-output"
    ),
    engine: EngineOption = "torch",
) -> None:
    """Train on handwritten digits with real ImageNet weights, no download needed."""
    from pyflux_transfer.demo import run

    run(folder, engine)
