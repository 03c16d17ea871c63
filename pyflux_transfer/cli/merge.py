"""`pyflux-transfer merge`: what shards have written, together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyflux_transfer.errors import InputError


def merge(
    folders: Annotated[list[str], typer.Argument(help="Folders that --out has written.")],
    out: Annotated[
        Path | None, typer.Option(help="Write all records into this .parquet, .csv or .jsonl.")
    ] = None,
    into_cache: Annotated[
        bool, typer.Option("--into-cache", help="Add features to the cache that `train` reads.")
    ] = False,
) -> None:
    """Put together what shards have written: each photo once, of several the latest."""
    from pyflux_transfer.cluster.kept import into_cache as keep
    from pyflux_transfer.cluster.merge import merge as together

    if out is None and not into_cache:
        raise InputError("Say where to: --out FILE, or --into-cache.")
    if out is not None:
        print(f"written {together(folders, out)} records into {out}")
    if into_cache:
        print(f"added {keep(folders)} photos' features to the cache")
