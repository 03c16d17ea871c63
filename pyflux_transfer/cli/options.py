"""Arguments and options that several commands share, and what their texts mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pyflux_transfer.cli import completion
from pyflux_transfer.engines.base import Precision
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.preprocessing import Fit

INTERRUPTED = 130  # what a shell expects after Ctrl-C

# Headings of the help; what has none stands first.
DATA, MODEL, COMPUTING = "Data", "Model", "Computing"

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder with one folder a class, CSV or Parquet.")
]
BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A saved bundle (.safetensors).")
]
Arch = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Architecture (see `models`), or a bundle to go on with.",
        autocompletion=completion.networks,
    ),
]  # fmt: skip
ArchOrAuto = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Architecture, auto (see `models`, `compare`), or a bundle to go on with.",
        autocompletion=completion.networks_or_auto,
    ),
]
WeightsOption = Annotated[
    str,
    typer.Option(
        metavar="TAG|FILE", help="imagenet, a tag (see `models`), a file, or none.",
        autocompletion=completion.tags, rich_help_panel=MODEL,
    ),
]  # fmt: skip
BatchSize = Annotated[int, typer.Option(help="Images at once.", min=1, rich_help_panel=COMPUTING)]
Workers = Annotated[
    int, typer.Option(help="Threads that decode images.", min=1, rich_help_panel=COMPUTING)
]
Cache = Annotated[
    bool,
    typer.Option(
        help="Keep features on disk between runs, as is usual.", show_default=False,
        rich_help_panel=COMPUTING,
    ),
]  # fmt: skip
MaxPixels = Annotated[
    int, typer.Option(help="Refuse images with more pixels.", min=1, rich_help_panel=DATA)
]
MaxSkipped = Annotated[
    float,
    typer.Option(help="Share of files that may be unreadable.", min=0, max=1, rich_help_panel=DATA),
]
MAX_PIXELS, MAX_SKIPPED = 50_000_000, 0.05  # as in `data`, which takes time to import
EngineOption = Annotated[
    str,
    typer.Option(
        metavar="auto|flux|torch|onnx", help="What computes.", autocompletion=completion.engines,
        rich_help_panel=COMPUTING,
    ),
]  # fmt: skip
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where: auto takes an NVIDIA GPU if any.", rich_help_panel=COMPUTING),
]
Size = Annotated[
    int | None,
    typer.Option(
        help="Side of the images in pixels; the weights' own.", min=1, rich_help_panel=MODEL
    ),
]
FitOption = Annotated[
    Fit | None,
    typer.Option(
        help="Crop the centre, pad to show all, or stretch; the weights' own.",
        rich_help_panel=MODEL,
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        help="Of prediction and training; weights are float32 always.", rich_help_panel=COMPUTING
    ),
]


def bundle_path(path: Path) -> Path:
    """Return a path that can be a bundle's."""
    if path.suffix != ".safetensors":
        raise InputError(f"A bundle's name ends in .safetensors, got '{path}'. It comes first.")
    return path


def given(context: typer.Context) -> set[str]:
    """Return the names of the parameters that were given, whatever their values."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name != "DEFAULT"}


def cut(text: str) -> int | str:
    """Return a unit's index, or a stage's name."""
    return int(text) if text.lstrip("-").isdigit() else text


def validation(text: str) -> str | float | None:
    """Return a share, a folder or table that is there, None, or "auto"."""
    if text == "auto":
        return text
    if text == "none":
        return None
    try:
        return float(text) or None
    except ValueError:
        if not Path(text).exists():
            raise InputError(
                f"'{text}' does not exist. --valid takes a folder, a table, a share such as 0.2, "
                "none or auto."
            ) from None
        return text
