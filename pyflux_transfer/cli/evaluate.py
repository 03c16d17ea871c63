"""`pyflux-transfer evaluate`: how good a bundle is on labelled photos."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pyflux_transfer.cli import options
from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import (
    MAX_PIXELS,
    MAX_SKIPPED,
    BatchSize,
    BundleArgument,
    Data,
    EngineOption,
    MaxPixels,
    MaxSkipped,
    PrecisionOption,
)
from pyflux_transfer.insight.tables import errors


def register(app: typer.Typer) -> None:
    """Add `evaluate` to a command line."""
    app.command()(evaluate)


def evaluate(
    bundle: BundleArgument,
    data: Data,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    batch_size: BatchSize = 16,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_skipped: MaxSkipped = MAX_SKIPPED,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Score a bundle on labelled photos."""
    from pyflux_transfer.classifier import load

    model = load(options.bundle_path(bundle), engine=engine, precision=precision)
    watcher = report.Terminal(errors)  # stdout is for the scores
    found = model.evaluate(
        data, batch_size=batch_size, max_pixels=max_pixels, max_skipped=max_skipped,
        watcher=watcher,
    )  # fmt: skip
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        report.evaluation(found)
