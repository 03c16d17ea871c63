"""Options of what is done in shares, by plain shells or on Ray, and the job they make."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import bundle_path
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.tables import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyflux_transfer.classifier import Classifier
    from pyflux_transfer.cluster.run import Counts
    from pyflux_transfer.cluster.work import Job
    from pyflux_transfer.engines.base import Device, Precision
    from pyflux_transfer.training.callbacks import Watcher
    from pyflux_transfer.training.train import Run

_shares = partial(typer.Option, rich_help_panel="Shares, and a cluster")
ShardOption = Annotated[
    str, _shares(metavar="I/N", help="Do this share, as 3/8, and keep it in --out.")
]
ClusterOption = Annotated[
    str,
    _shares(metavar="ADDRESS", help="Do it on Ray: an address, auto, or local."),
]
WorkersOption = Annotated[
    int | None,
    _shares("--cluster-workers", help="Networks on the cluster; as many as fit.", min=1),
]
GpusOption = Annotated[
    float,
    _shares("--cluster-gpus", help="GPUs a worker, or its part of one.", min=0),
]
FormatOption = Annotated[str, _shares("--format", help="Of the parts: parquet, jsonl or csv.")]


def do(
    job: Job, source: str, out: Path | None, *, shard: str, cluster: str, workers: int | None,
    gpus: float, form: str,
) -> Counts:  # fmt: skip
    """Do a job's share, here or on a cluster, and return how it went."""
    from pyflux_transfer.cluster.photos import Shard, address, photos
    from pyflux_transfer.cluster.run import here, run

    if out is None:
        raise InputError("Give --out, the folder to keep the parts in.")
    found = photos(source, labelled=job.kind == "features")
    common: dict[str, Any] = {
        "form": form, "shard": Shard.of(shard) if shard else None,
        "watcher": report.Terminal(errors),
    }  # fmt: skip
    if not cluster:
        return run(job, found, address(str(out)), runner=here, **common)
    from pyflux_transfer.cluster.data import Cluster, OnRay

    there = Cluster(cluster, workers, gpus=gpus)
    try:
        return run(job, found, address(str(out)), runner=OnRay(there), **common)
    finally:
        there.close()


def train(
    net: Classifier, data: Path, target: Path, chosen: dict[str, Any], *, cluster: str,
    workers: int | None, gpus: float, device: Device, run_dir: Path | None, watcher: Watcher,
) -> tuple[Classifier, Run]:  # fmt: skip
    """Solve a head on a cluster, from features that its nodes compute and keep."""
    from pyflux_transfer.cluster.data import Cluster, OnRay
    from pyflux_transfer.cluster.heads import fit_head
    from pyflux_transfer.cluster.photos import address, photos
    from pyflux_transfer.cluster.run import run
    from pyflux_transfer.cluster.work import features_of
    from pyflux_transfer.training.options import Options

    options = Options(**chosen)
    place = str((run_dir or target.with_suffix(".run")) / "features")
    there = Cluster(cluster, workers, gpus=gpus)
    engine, plan = net.network.engine, net.plan
    job = features_of(
        net, "head", engine=engine, device=device, precision=plan.precision,
        max_pixels=options.max_pixels,
    )  # fmt: skip
    try:
        found = photos(address(str(data)), labelled=True)
        run(job, found, place, runner=OnRay(there), watcher=watcher)
        return fit_head(net, place, cluster=there, options=options, watcher=watcher)
    finally:
        there.close()


def predictions(
    files: Sequence[Path], batch_size: int, max_pixels: int, engine: str, device: Device,
    precision: Precision, keep: float | None,
) -> Job:  # fmt: skip
    """Return the job of a bundle, the first of two things that are given."""
    from pyflux_transfer import bundle as bundles
    from pyflux_transfer.cluster.work import predictions_of
    from pyflux_transfer.insight.belonging import kept

    if len(files) != 2:
        raise InputError("--shard and --cluster take a bundle and one source: a folder or a table.")
    bundle = bundles.read(bundle_path(files[0]))
    bundle = replace(bundle, belonging=kept(bundle.belonging, keep))
    return predictions_of(
        bundle, batch_size=batch_size, max_pixels=max_pixels, engine=engine, device=device,
        precision=precision,
    )  # fmt: skip
