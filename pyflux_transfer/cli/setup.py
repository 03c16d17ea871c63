"""`pyflux-transfer setup` and `doctor`: what the engines need, and whether it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyflux_transfer.cli import terminal as report
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.tables import console


def register(app: typer.Typer) -> None:
    """Add `setup` and `doctor` to a command line."""
    app.command()(setup)
    app.command()(doctor)


def setup(
    julia: Annotated[str | None, typer.Option(help="A Julia you have; else one is found.")] = None,
    project: Annotated[Path | None, typer.Option(help="Its environment with the packages.")] = None,
    load_path: Annotated[
        list[str] | None, typer.Option(help="Load path entry; repeatable.")
    ] = None,
    depot: Annotated[str, typer.Option(help="Its depot.")] = "",
    threads: Annotated[int, typer.Option(help="Julia threads; 0: one a processor.")] = 0,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for Julia; repeatable.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Add CUDA and cuDNN.")] = False,
    sysimage: Annotated[
        bool, typer.Option("--sysimage", help="Make a system image: a quicker start.")
    ] = False,
) -> None:
    """Prepare Julia for the flux engine, or register one you have; can be run again."""
    from pyflux_transfer.installation.setup import setup as prepare

    pairs = dict(_pair(text) for text in env or ())
    for line in prepare(julia, project, load_path or (), depot, gpu, threads, pairs, sysimage):
        console.print(line, markup=False, soft_wrap=True)


def doctor() -> None:
    """Show Python, the engines, Julia, threads, GPU and caches; a remedy for what is missing."""
    from pyflux_transfer.installation.doctor import doctor as examine

    report.checks(examine())


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--env takes NAME=VALUE, got {text!r}.")
    return name, value
