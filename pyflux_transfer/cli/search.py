"""`pyflux-transfer search`: networks, depths, rates, augmentations and decays, tried for you."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import (
    Cache,
    Data,
    EngineOption,
    PrecisionOption,
)
from pyflux_transfer.cli.scale import ClusterOption, GpusOption, WorkersOption
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.tables import console, errors, show, table
from pyflux_transfer.storage import check_writable

if TYPE_CHECKING:
    from pyflux_transfer.cluster.search import Search

_NAMES = "Architectures, by comma or repeated; those whose weights are here."


def register(app: typer.Typer) -> None:
    """Add `search` to a command line."""
    app.command()(search)


def search(
    data: Data,
    trials: Annotated[int, typer.Option(help="How many are tried in all.", min=1)] = 30,
    out: Annotated[Path | None, typer.Option(help="Copy the best bundle here.")] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="What was tried, to go on with; the folder's name and .search."),
    ] = None,
    arch: Annotated[list[str] | None, typer.Option(help=_NAMES)] = None,
    epochs: Annotated[int, typer.Option(help="Epochs where deeper stages train.", min=1)] = 5,
    valid: Annotated[
        float, typer.Option(help="Share that judges, where the data says nothing.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the split and of the choices.")] = 0,
    cluster: ClusterOption = "",
    workers: WorkersOption = None,
    gpus: GpusOption = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    cache: Cache = True,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Try networks, depths, rates, augmentations and decays; keep the best bundle.

    Validation images choose, test images never do. The same command goes on where it was ended.
    """
    from pyflux_transfer.cluster.data import Cluster
    from pyflux_transfer.cluster.search import search as look

    if out is not None:
        if out.suffix != ".safetensors":
            raise InputError(f"--out must name a .safetensors file, got '{out}'.")
        check_writable(out)
    folder = run_dir or Path(f"{data.resolve().stem}.search")
    names = [name for text in arch or () for name in text.split(",") if name]
    there = Cluster(cluster, workers, gpus=gpus) if cluster else None
    try:
        found = look(
            data, trials, networks=names or None, run_dir=folder, epochs=epochs, valid=valid,
            seed=seed, engine=engine, precision=precision, cache=cache, cluster=there,
            watcher=report.Terminal(errors),
        )  # fmt: skip
    finally:
        if there:
            there.close()
    place = found.bundle
    if out is not None:
        shutil.copyfile(found.bundle, out)
        place = out
    if as_json:
        answer = {
            "trials": [row.to_json() for row in found.rows],
            "bundle": str(place),
            "test": found.test.to_json() if found.test else None,
        }
        print(json.dumps(answer, indent=2))
        return
    _show(found)
    if found.test:
        console.print(
            f"on {found.test.count} test images, which chose nothing: accuracy "
            f"{found.test.accuracy:.1%}, log loss {found.test.log_loss:.4f}"
        )
    console.print(f"the best model: {place}", soft_wrap=True)


def _show(found: Search, most: int = 20) -> None:
    rows = table("trial", "network", "trained from", "rate", "augment", "decay", "accuracy",
                 "log loss", "seconds", "")  # fmt: skip
    for row in found.rows[:most]:
        choice = row.choice
        rows.add_row(
            str(row.number), choice.network, row.cut,
            "" if choice.lr is None else f"{choice.lr:.1e}",
            choice.augment if choice.depth else "", f"{choice.decay:.1e}",
            "" if row.accuracy is None else f"{row.accuracy:.1%}",
            "" if row.loss is None else f"{row.loss:.4f}", f"{row.seconds:.1f}",
            "" if row.state == "done" else row.state,
        )  # fmt: skip
    show(rows, console)
    if len(found.rows) > most:
        console.print(f"… and {len(found.rows) - most} more (--json tells all)")
