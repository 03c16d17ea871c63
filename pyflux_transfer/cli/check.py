"""`pyflux-transfer check`: what is wrong with a folder of labelled photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import (
    MAX_PIXELS,
    Arch,
    Cache,
    Data,
    DeviceOption,
    EngineOption,
    MaxPixels,
    PrecisionOption,
    WeightsOption,
    Workers,
)
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.tables import console, errors
from pyflux_transfer.storage import check_writable

if TYPE_CHECKING:
    from pyflux_transfer.insight.findings import Findings

NONE = Path("none")


def register(app: typer.Typer) -> None:
    """Add `check` to a command line."""
    app.command()(check)


def check(
    data: Data,
    arch: Arch = "resnet50",
    weights: WeightsOption = "imagenet",
    csv: Annotated[Path, typer.Option(help="Table of findings, or none.")] = Path("check.csv"),
    page: Annotated[Path, typer.Option(help="Page of findings, or none.")] = Path("check.html"),
    write_groups: Annotated[
        Path | None, typer.Option(help="Write a table whose groups keep copies and series.")
    ] = None,
    apply: Annotated[
        Path | None, typer.Option(help="Apply the decisions of this table instead of checking.")
    ] = None,
    out: Annotated[Path, typer.Option(help="With --apply: the table of photos to write.")] = Path(
        "checked.csv"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    cache: Cache = True,
    seed: Annotated[int, typer.Option(help="Seed of the folds.")] = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
    workers: Workers = 2,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Find wrong labels, near-copies, series, outliers and bad photos. No photo is changed."""
    if apply:
        _apply(data, apply, out)
        return
    from pyflux_transfer.insight import check_tables
    from pyflux_transfer.insight.check_page import write_page
    from pyflux_transfer.insight.page import possible
    from pyflux_transfer.inspection import check as look
    from pyflux_transfer.inspection import folder_of

    for target in (csv, page, write_groups):
        if target and target != NONE:
            check_writable(target)
    if page != NONE:
        possible()
    watcher = report.Terminal(errors)  # stdout is for the findings
    found = look(
        data, arch, weights=weights, engine=engine, device=device, precision=precision, cache=cache,
        seed=seed, workers=workers, max_pixels=max_pixels, watcher=watcher,
    )  # fmt: skip
    folder = folder_of(data)
    if csv != NONE:
        check_tables.write_findings(csv, found)
    if page != NONE:
        write_page(page, found, folder, str(data))
    if write_groups:
        check_tables.write_groups(write_groups, found, folder)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        _tell(found, [target for target in (page, csv, write_groups) if target not in (None, NONE)])


def _tell(found: Findings, targets: list[Path | None]) -> None:
    report.findings(found)
    for target in targets:
        console.print(f"written {target}", soft_wrap=True)


def _apply(data: Path, decisions: Path, out: Path) -> None:
    from pyflux_transfer.insight.decisions import apply

    if out.suffix.lower() != ".csv":
        raise InputError(f"--out must name a .csv table, got '{out}'.")
    if out.exists() and data.exists() and out.samefile(data):
        raise InputError(f"--out must be another table than the data '{data}'.")
    check_writable(out)
    target, removed, relabelled = apply(data, decisions, out)
    print(f"written {target}: {removed} photos left out, {relabelled} relabelled")
