"""`pyflux-transfer features` and `merge`: what a trunk makes of photos, in parts, and together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyflux_transfer.cli import completion, merge, options
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
from pyflux_transfer.cli.scale import (
    ClusterOption,
    FormatOption,
    GpusOption,
    ShardOption,
    WorkersOption,
    do,
)
from pyflux_transfer.errors import InputError, readable
from pyflux_transfer.storage import check_writable, replacing

if TYPE_CHECKING:
    from pyflux_transfer.networks.preprocessing import Fit


def register(app: typer.Typer) -> None:
    """Add `features` and `merge` to a command line."""
    app.command()(features)
    app.command()(merge.merge)


def features(
    data: Data,
    out: Annotated[Path, typer.Option(help="The .npz file to write; a folder for parts.")],
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
    shard: ShardOption = "",
    cluster: ClusterOption = "",
    workers: WorkersOption = None,
    gpus: GpusOption = 0.0,
    form: FormatOption = "parquet",
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Write the trunk's features of photos, with labels and paths, as .npz.

    With --shard or --cluster it keeps them in a folder of parts, and goes on there where it
    stopped; `data` may then be an address or a table that has only paths.
    """
    if shard or cluster:
        _in_parts(
            str(data),
            arch,
            weights,
            size,
            fit,
            cut,
            {
                "engine": engine,
                "device": device,
                "precision": precision,
                "max_pixels": max_pixels,
            },
            {
                "out": out,
                "shard": shard,
                "cluster": cluster,
                "workers": workers,
                "gpus": gpus,
                "form": form,
            },
        )
        return
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


def _in_parts(
    source: str,
    arch: str,
    weights: str,
    size: int | None,
    fit: Fit | None,
    cut: str,
    computing: dict[str, Any],
    writing: dict[str, Any],
) -> None:
    from pyflux_transfer.classifier import load
    from pyflux_transfer.cluster.work import features_of

    model = load(
        arch,
        weights=weights,
        size=size,
        fit=fit,
        engine=computing["engine"],
        # On a cluster its nodes compute: this machine need not have their device.
        device="auto" if writing["cluster"] else computing["device"],
        precision=computing["precision"],
    )
    job = features_of(model, options.cut(cut), **computing)
    if do(job, source, **writing).unreadable:
        raise typer.Exit(InputError.exit_status)
