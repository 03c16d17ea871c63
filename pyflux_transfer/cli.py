"""The command line: arguments, then one library call a command."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from pyflux_transfer import cli_options, cli_predict, cli_serve, cli_setup, cli_train, report
from pyflux_transfer.cli_options import (
    Arch,
    BatchSize,
    BundleArgument,
    Data,
    EngineOption,
    PrecisionOption,
    WeightsOption,
)
from pyflux_transfer.errors import PyFluxTransferError, StorageError

app = typer.Typer(
    name="pyflux-transfer",
    help="Train an image classifier from a folder of labelled photos, use it, serve it.",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(asked: bool) -> None:
    if asked:
        for name in ("pyflux-transfer", "torch", "juliacall"):
            with contextlib.suppress(metadata.PackageNotFoundError):
                print(name, metadata.version(name))
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback.")] = False,
) -> None:
    """Train an image classifier from a folder of labelled photos, use it, serve it."""
    del version, debug  # `main` takes --debug wherever it stands


cli_train.register(app)


@app.command()
def evaluate(
    bundle: BundleArgument,
    data: Data,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    batch_size: BatchSize = 16,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Score a bundle on labelled photos."""
    from pyflux_transfer.loading import load

    model = load(cli_options.bundle_path(bundle), engine=engine, precision=precision)
    watcher = report.Terminal(report.errors)  # stdout is for the scores
    found = model.evaluate(data, batch_size=batch_size, watcher=watcher)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        report.evaluation(found)


cli_predict.register(app)


@app.command()
def summary(
    model: Annotated[str, typer.Argument(help="An architecture or a bundle.")],
    engine: EngineOption = "auto",
) -> None:
    """Show a network's units, shapes and parameter counts."""
    from pyflux_transfer.loading import load

    load(model, weights=None, engine=engine, precision="fp32").summary()


@app.command()
def features(
    data: Data,
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    arch: Arch = "resnet50",
    cut: Annotated[str, typer.Option(help="Take what enters this stage or unit.")] = "head",
    weights: WeightsOption = "imagenet",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Write the trunk's features of photos, with labels and paths, as .npz."""
    import numpy as np

    from pyflux_transfer.loading import load

    place = cli_options.cut(cut)
    net = load(arch, weights=weights, engine=engine, precision=precision)
    watcher = report.Terminal()
    found, labels, paths = net.features(data, cut=place, watcher=watcher)
    try:
        with out.open("wb") as file:
            np.savez(file, features=found, labels=np.array(labels), paths=np.array(paths))
    except OSError as error:
        raise StorageError(f"Cannot write '{out}': {error.strerror}.") from error
    watcher.line(f"saved {out}: features {found.shape}, labels, paths")


@app.command()
def models() -> None:
    """List the architectures, their sizes and weight sources."""
    report.models()


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of it.")] = False,
) -> None:
    """List the feature cache, or clear it."""
    from pyflux_transfer.training import store

    folder = store.features_folder()
    if clear:
        print(f"freed {store.clear(folder) / 2**20:,.1f} MiB in {folder}")
    else:
        report.cache(store.entries(folder), str(folder))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("demo-output"),
    engine: EngineOption = "torch",
) -> None:
    """Train on handwritten digits with real ImageNet weights, no download needed."""
    from pyflux_transfer.demo import run

    run(folder, engine)


cli_setup.register(app)
cli_serve.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error is one line on stderr and an exit status.

    2 is the user's input, 1 everything else, 130 Ctrl-C. `--debug` anywhere adds the traceback.
    """
    # What is imported lives to the end. Collecting garbage among it, often while it is made and
    # once more at the exit, takes a quarter of the time of a short command.
    gc.set_threshold(100_000)
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name need not be writable in its encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        status = app([w for w in words if w != "--debug"] or ["--help"], standalone_mode=False)
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, status = _explained(error)
        print("error:", *message.splitlines(), file=sys.stderr)
    gc.freeze()
    sys.exit(status)


def _explained(error: Exception) -> tuple[str, int]:
    """Return an error's message and exit status."""
    if isinstance(error, PyFluxTransferError):
        return str(error), error.exit_status
    if isinstance(error, typer.TyperException):  # wrong usage
        return f"{error.format_message()} See: pyflux-transfer --help", error.exit_code
    return f"{type(error).__name__}: {error} (a fault of the program; see --debug)", 1
