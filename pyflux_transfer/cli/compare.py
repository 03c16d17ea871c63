"""`pyflux-transfer compare`: which network does best on a folder of photos."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyflux_transfer.cli import completion
from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import (
    MAX_PIXELS,
    MAX_SKIPPED,
    Cache,
    Data,
    DeviceOption,
    EngineOption,
    FitOption,
    MaxPixels,
    MaxSkipped,
    PrecisionOption,
    Workers,
    given,
)
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.tables import console, errors

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pyflux_transfer.comparison import Candidate
    from pyflux_transfer.data.dataset import Splits
    from pyflux_transfer.engines.base import Device, Precision
    from pyflux_transfer.networks.preprocessing import Fit
    from pyflux_transfer.training.callbacks import Watcher
    from pyflux_transfer.training.options import Options

_NAMES = "Architectures, by comma or repeated, NAME or NAME=WEIGHTS (a tag or a file)."
_SIZES = "Sides of the images in pixels, by comma or repeated: each network at each."
_HERE = {"data", "arch", "sizes", "as_json"}  # what `train` is told otherwise, or not


def register(app: typer.Typer) -> None:
    """Add `compare` to a command line."""
    app.command()(compare)


def compare(
    context: typer.Context,
    data: Data,
    arch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help=_NAMES, autocompletion=completion.networks),
    ] = None,
    sizes: Annotated[list[str] | None, typer.Option(metavar="SIZES", help=_SIZES)] = None,
    fit: FitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    label_smoothing: Annotated[float, typer.Option(help="Label smoothing (0–1).")] = 0.0,
    balance: Annotated[
        bool, typer.Option("--balance", help="Weigh classes by inverse frequency.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the folds.")] = 0,
    cache: Cache = True,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_skipped: MaxSkipped = MAX_SKIPPED,
    workers: Workers = 2,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Cross-validate networks on your photos, and recommend one.

    Without --arch all are taken whose published weights are on this machine.
    """
    from pyflux_transfer.comparison import compare as judge
    from pyflux_transfer.comparison import recommended

    names = None if arch is None else [name for text in arch for name in text.split(",") if name]
    if names == []:
        raise InputError("--arch needs names of architectures. See: pyflux-transfer models")
    rows = judge(
        data, names, sizes=_sizes(sizes or ()), fit=fit, engine=engine, device=device,
        cache=cache, watcher=report.Terminal(errors),
        label_smoothing=label_smoothing, class_weights="auto" if balance else None, seed=seed,
        max_pixels=max_pixels, max_skipped=max_skipped, workers=workers, precision=precision,
    )  # fmt: skip
    command = _training(rows, data, context)
    if as_json:
        answer = {"networks": [row.to_json() for row in rows], "train": command}
        print(json.dumps(answer, indent=2))
    else:
        report.comparison(rows)
    recommended(rows)  # where all have failed that is an error
    if not as_json:
        console.print(f"\nTrain it:\n  {command}", soft_wrap=True)


def best(
    data: Path, given: Collection[str], options: Options, engine: str, device: Device,
    precision: Precision, cache: bool, watcher: Watcher, size: int | None, fit: Fit | None,
) -> tuple[Candidate, Splits]:  # fmt: skip
    """Return the network that a comparison recommends, and the photos as they were scanned.

    What was `given` of the options counts as far as the recipe heeds it.
    """
    from pyflux_transfer.comparison import compare as judge
    from pyflux_transfer.comparison import recommended
    from pyflux_transfer.training.callbacks import Silent
    from pyflux_transfer.training.recipe import HEEDED

    for name in ("weights", "resume"):
        if name in given:
            raise InputError(f"--arch auto chooses the network. Name it, or leave --{name} out.")
    splits = options.reader(watcher).read(data)
    heeded: Any = {k: v for k, v in vars(options).items() if k in HEEDED.intersection(given)}
    heeded["precision"] = precision
    sizes = () if size is None else (size,)
    rows = judge(
        splits,
        sizes=sizes,
        fit=fit,
        engine=engine,
        device=device,
        cache=cache,
        watcher=watcher,
        **heeded,
    )
    if not isinstance(watcher, Silent):
        report.comparison(rows)
    return recommended(rows), splits


def _training(rows: Sequence[Candidate], data: Path, context: typer.Context) -> str | None:
    """Return the command that trains the recommended network; None where all have failed."""
    chosen = next((row for row in rows if row.recommended), None)
    if chosen is None:
        return None
    words = ["pyflux-transfer", "train", str(data), "--arch", chosen.architecture]
    if not chosen.usual:
        words += ["--weights", chosen.weights]
    if chosen.size is not None:
        words += ["--size", str(chosen.size)]
    for name in sorted(given(context) & set(context.params) - _HERE):
        words += _words(name, context.params[name])
    return shlex.join(words)


def _sizes(texts: Sequence[str]) -> list[int]:
    """Return the sizes that are asked for, as `--sizes 224,288` or one by one."""
    words = [word.strip() for text in texts for word in text.split(",")]
    if wrong := [word for word in words if not word.isdecimal()]:
        raise InputError(f"--sizes takes whole numbers, as 224,288; got {wrong[0]!r}.")
    return [int(word) for word in words]


def _words(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", str(value)]
