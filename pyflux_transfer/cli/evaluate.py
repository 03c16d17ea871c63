"""`pyflux-transfer evaluate`: how good a bundle is on labelled photos."""

from __future__ import annotations

import json
import sys
from pathlib import Path
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
    DeviceOption,
    EngineOption,
    MaxPixels,
    MaxSkipped,
    PrecisionOption,
)
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.tables import errors


def register(app: typer.Typer) -> None:
    """Add `evaluate` to a command line."""
    app.command()(evaluate)


def evaluate(
    bundle: BundleArgument,
    data: Data,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV, a line a photo.")] = False,
    batch_size: BatchSize = 16,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_skipped: MaxSkipped = MAX_SKIPPED,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Score a bundle on labelled photos."""
    from pyflux_transfer import bundle as bundles
    from pyflux_transfer.classifier import load
    from pyflux_transfer.judgement import judge, write_rows
    from pyflux_transfer.predict import engine_for
    from pyflux_transfer.training.options import Options

    if as_json and as_csv:
        raise InputError("Choose one of --json and --csv.")
    chosen = Options(batch_size=batch_size, max_pixels=max_pixels, max_skipped=max_skipped)
    about = bundles.describe(options.bundle_path(bundle))
    engine, why = engine_for(about, engine, device, precision, photos=_count(data))
    watcher = report.Terminal(errors)  # stdout is for the scores
    model = load(bundle, engine=engine, device=device, precision=precision)
    judged = judge(model, data, chosen, watcher)
    watcher.line(why)
    if judged.flatters(model.info):
        watcher.line("as many photos trained this model: if it was these, the scores flatter it")
    if as_csv:
        write_rows(judged, sys.stdout)
    elif as_json:
        print(json.dumps(judged.evaluation().to_json(), indent=2))
    else:
        report.evaluation(judged.evaluation())


def _count(data: Path) -> int | None:
    """Return how many files a folder holds; None where that is no folder."""
    from pyflux_transfer.data.listing import files

    return len(files(data)) if data.is_dir() else None
