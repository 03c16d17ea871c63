"""`pyflux-transfer cache`: the features that are kept between runs."""

from __future__ import annotations

from typing import Annotated

import typer

from pyflux_transfer.cli import terminal as report


def register(app: typer.Typer) -> None:
    """Add `cache` to a command line."""
    app.command()(cache)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of it.")] = False,
) -> None:
    """List the feature cache, or clear it."""
    from pyflux_transfer.storage import features_folder
    from pyflux_transfer.training import store

    folder = features_folder()
    if clear:
        print(f"freed {store.clear(folder) / 2**20:,.1f} MiB in {folder}")
    else:
        report.cache(store.entries(folder), str(folder))
