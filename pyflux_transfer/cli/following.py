"""`pyflux-transfer next`: which photos to label next."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import (
    MAX_PIXELS,
    BatchSize,
    BundleArgument,
    DeviceOption,
    EngineOption,
    MaxPixels,
    PrecisionOption,
    bundle_path,
)
from pyflux_transfer.errors import InputError, readable
from pyflux_transfer.insight.tables import errors


def register(app: typer.Typer) -> None:
    """Add `next` to a command line."""
    app.command("next")(following)


def following(
    bundle: BundleArgument,
    unlabelled: Annotated[
        Path, typer.Argument(metavar="UNLABELLED", help="Folder of photos without labels.")
    ],
    count: Annotated[int, typer.Option(help="Photos to label next.", min=1)] = 20,
    known: Annotated[
        Path | None, typer.Option(help="The labelled photos, to stay away from.")
    ] = None,
    sort: Annotated[
        Path | None, typer.Option(help="Fill a new folder with links, by proposed label.")
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="With --sort: copies, not links.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, a line a photo.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
    batch_size: BatchSize = 16,
    max_pixels: MaxPixels = MAX_PIXELS,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Choose which photos to label next: those that teach the model most.

    They are those it is unsure of, unlike what it knows and unlike each other.
    """
    from pyflux_transfer.classifier import load
    from pyflux_transfer.labelling import propose, sort_into

    if as_json and as_csv:
        raise InputError("Choose one of --json and --csv.")
    if copy and not sort:
        raise InputError("--copy belongs to --sort DIR.")
    model = load(bundle_path(bundle), engine=engine, device=device, precision=precision)
    proposal = propose(
        model, unlabelled, count, known=known, batch_size=batch_size, max_pixels=max_pixels,
        watcher=report.Terminal(errors),
    )  # fmt: skip
    for item in proposal.skipped:
        print(readable(item.reason), file=sys.stderr)
    if as_json:
        for photo in proposal.next:
            print(json.dumps(photo.to_json()))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("order", "path", "label", "probability"))
        for photo in proposal.next:
            writer.writerow((photo.order, readable(photo.path), photo.label, photo.probability))
    else:
        report.next_photos(proposal.next)
    if sort:
        made = sort_into(sort, proposal, copy=copy)
        print(f"sorted {len(made)} photos into {sort}", file=sys.stderr)
