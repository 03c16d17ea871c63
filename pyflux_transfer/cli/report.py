"""`pyflux-transfer report`: a page about a bundle's answers to labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyflux_transfer.cli import options, terminal
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
from pyflux_transfer.errors import counted
from pyflux_transfer.insight.tables import console, errors


def register(app: typer.Typer) -> None:
    """Add `report` to a command line."""
    app.command()(report)


def report(
    bundle: BundleArgument,
    data: Data,
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("report.html"),
    batch_size: BatchSize = 16,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_skipped: MaxSkipped = MAX_SKIPPED,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Write one page about a bundle: scores, confusions, its worst answers with heat maps."""
    from pyflux_transfer import reporting
    from pyflux_transfer.classifier import load

    reporting.prepared(out)
    model = load(options.bundle_path(bundle), engine=engine, device=device, precision=precision)
    found = reporting.report(
        model, data, out, batch_size=batch_size, max_pixels=max_pixels, max_skipped=max_skipped,
        watcher=terminal.Terminal(errors),
    )  # fmt: skip
    console.print(f"{counted(found.count, 'image')}  accuracy {found.accuracy:.1%}")
    console.print(f"written {out}", soft_wrap=True)
