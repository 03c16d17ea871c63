"""`pyflux-transfer summary`, `features` and `models`: the networks themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pyflux_transfer.cli import catalog, completion, options
from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import (
    MAX_PIXELS,
    MAX_SKIPPED,
    Arch,
    Cache,
    Data,
    DeviceOption,
    EngineOption,
    FitOption,
    MaxPixels,
    MaxSkipped,
    PrecisionOption,
    Size,
    WeightsOption,
)
from pyflux_transfer.errors import readable
from pyflux_transfer.insight.summary import COLUMNS, USUAL
from pyflux_transfer.storage import check_writable, replacing


def register(app: typer.Typer) -> None:
    """Add `summary`, `features` and `models` to a command line."""
    app.command()(summary)
    app.command()(features)
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


def features(
    data: Data,
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    arch: Arch = "resnet50",
    cut: Annotated[
        str,
        typer.Option(
            metavar="STAGE|N",
            help="Take what enters this stage or unit.",
            autocompletion=completion.cuts,
        ),
    ] = "head",
    weights: WeightsOption = "imagenet",
    size: Size = None,
    fit: FitOption = None,
    cache: Cache = True,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_skipped: MaxSkipped = MAX_SKIPPED,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Write the trunk's features of photos, with labels and paths, as .npz."""
    import numpy as np

    from pyflux_transfer.classifier import load

    check_writable(out)
    place = options.cut(cut)
    net = load(
        arch, weights=weights, engine=engine, device=device, precision=precision, size=size,
        fit=fit,
    )  # fmt: skip
    watcher = report.Terminal()
    found, labels, paths = net.features(
        data, cut=place, cache=cache, max_pixels=max_pixels, max_skipped=max_skipped,
        watcher=watcher,
    )  # fmt: skip
    names = np.array([readable(path) for path in paths])
    with replacing(out) as temporary, temporary.open("wb") as file:
        np.savez(file, features=found, labels=np.array(labels), paths=names)
    watcher.line(f"saved {out}: features {found.shape}, labels, paths")


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, all that is known.")] = False,
) -> None:
    """List the architectures, their sizes and weight sources."""
    if as_json:
        print(json.dumps(list(catalog.rows()), indent=2))
    else:
        catalog.models()
