"""Options of what is done in shares, by plain shells or on Ray, and the job they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import bundle_path
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.tables import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyflux_transfer.cluster.run import Counts
    from pyflux_transfer.cluster.work import Job
    from pyflux_transfer.engines.base import Precision

ShardOption = Annotated[str, typer.Option(help="Do this share, as 3/8, and keep it in --out.")]
ClusterOption = Annotated[
    str, typer.Option(help="Do it on Ray: an address, auto, or local; keep it in --out.")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="Networks on the cluster; as many as fit.", min=1)
]
GpusOption = Annotated[float, typer.Option(help="GPUs a worker, or its part of one.", min=0)]
FormatOption = Annotated[str, typer.Option("--format", help="Of the parts: parquet, jsonl or csv.")]


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


def predictions(
    files: Sequence[Path], batch_size: int, max_pixels: int, engine: str, precision: Precision
) -> Job:
    """Return the job of a bundle, the first of two things that are given."""
    from pyflux_transfer import bundle as bundles
    from pyflux_transfer.cluster.work import predictions_of

    if len(files) != 2:
        raise InputError("--shard and --cluster take a bundle and one source: a folder or a table.")
    return predictions_of(
        bundles.read(bundle_path(files[0])), batch_size=batch_size, max_pixels=max_pixels,
        engine=engine, precision=precision,
    )  # fmt: skip
