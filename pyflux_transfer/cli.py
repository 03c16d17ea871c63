"""The command line: arguments, then one library call a command."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pyflux_transfer import cli_serve, cli_setup, report
from pyflux_transfer.engines.base import Precision
from pyflux_transfer.errors import InputError, PyFluxTransferError

app = typer.Typer(
    name="pyflux-transfer",
    help="Train an image classifier from a folder of labelled photos, use it, serve it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
Data = Annotated[Path, typer.Argument(help="Folder with one folder a class, or a CSV.")]
BundleArgument = Annotated[Path, typer.Argument(help="A saved bundle (.safetensors).")]
EngineOption = Annotated[str, typer.Option(help="auto, flux or torch.")]
PrecisionOption = Annotated[Precision, typer.Option(help="Of the trunk and of prediction.")]
Keep = Literal["hidden", "classifier"]


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
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Train an image classifier from a folder of labelled photos, use it, serve it."""
    del version, debug  # main() looks for it among the arguments: it must work for every error


@app.command()
def train(
    data: Data,
    arch: Annotated[str, typer.Option(help="Architecture; see `models`.")] = "resnet50",
    out: Annotated[Path | None, typer.Option(help="Bundle to write; <folder>.safetensors.")] = None,
    valid: Annotated[str, typer.Option(help="Validation folder, share (0–1), or none.")] = "0.2",
    cut: Annotated[str, typer.Option(help="Train from this stage or unit on.")] = "head",
    epochs: Annotated[int, typer.Option(help="Epochs (with --fine-tune: after the head's).")] = 5,
    fine_tune: Annotated[int, typer.Option(help="First the head, then this many last stages.")] = 0,
    freeze_epochs: Annotated[int, typer.Option(help="Epochs of the head alone.")] = 3,
    lr: Annotated[float | None, typer.Option(help="Learning rate; 1e-3 head, 1e-4 deeper.")] = None,
    weights: Annotated[str, typer.Option(help="imagenet, a file, or none.")] = "imagenet",
    hidden: Annotated[list[int] | None, typer.Option(help="Hidden width; repeatable.")] = None,
    dropout: Annotated[float, typer.Option(help="Dropout in the head.")] = 0.0,
    keep: Annotated[Keep | None, typer.Option(help="What of the old head to keep.")] = None,
    augment: Annotated[str, typer.Option(help="none, light, strong, or flip,crop,…")] = "none",
    views: Annotated[int, typer.Option(help="Cache this many augmented views an image.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    optimizer: Annotated[str, typer.Option(help="adamw, adam or sgd.")] = "adamw",
    schedule: Annotated[str, typer.Option(help="cosine, one-cycle, step or constant.")] = "cosine",
    lr_decay: Annotated[float, typer.Option(help="Rate factor a stage downward.")] = 0.3,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 0.01,
    label_smoothing: Annotated[float, typer.Option(help="Label smoothing (0–1).")] = 0.0,
    balance: Annotated[bool, typer.Option(help="Weigh classes by inverse frequency.")] = False,
    solver: Annotated[str, typer.Option(help="steps, or lbfgs for a linear head.")] = "steps",
    patience: Annotated[int | None, typer.Option(help="Stop after epochs without gain.")] = None,
    freeze_bn: Annotated[bool, typer.Option(help="Freeze the tail's BatchNorm.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the split, order, head and dropout.")] = 0,
    run_dir: Annotated[Path | None, typer.Option(help="Keep each epoch here, to resume.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --run-dir.")] = False,
    cache: Annotated[bool, typer.Option(help="Keep features on disk between runs.")] = True,
    max_pixels: Annotated[int, typer.Option(help="Refuse images with more pixels.")] = 50_000_000,
    workers: Annotated[int, typer.Option(help="Threads that decode images.")] = 2,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    plot: Annotated[Path | None, typer.Option(help="Draw the history into this image.")] = None,
    quiet: Annotated[bool, typer.Option(help="Print nothing but errors.")] = False,
) -> None:
    """Train a classifier on a folder of photos and save it as one file."""
    from pyflux_transfer.classifier import DEEPER_RATE, load, read
    from pyflux_transfer.training.callbacks import Silent
    from pyflux_transfer.training.options import Options

    target = out or Path(f"{data.resolve().stem}.safetensors")
    options = Options(
        optimizer=optimizer, lr_decay=lr_decay, schedule=schedule, weight_decay=weight_decay,
        label_smoothing=label_smoothing, class_weights="auto" if balance else None,
        augment=augment, views=views, batch_size=batch_size, seed=seed, patience=patience,
        freeze_bn=freeze_bn, solver=solver, workers=workers, max_pixels=max_pixels,
    )  # fmt: skip
    watcher = Silent() if quiet else report.Terminal()
    splits = read(data, None, options)
    net = load(arch, weights=_none(weights), engine=engine, precision=precision)
    model = net.with_head(
        splits.train.classes, hidden=hidden or (), dropout=dropout, keep=keep, seed=seed,
    )  # fmt: skip
    common: dict[str, Any] = {
        "valid": _valid(valid), "epochs": epochs, "run_dir": run_dir, "resume": resume,
        "cache": cache, "watcher": watcher, **vars(options),
    }  # fmt: skip
    if fine_tune:
        common |= {"depth": fine_tune, "freeze_epochs": freeze_epochs}
        run = model.fine_tune(splits, fine_lr=lr or DEEPER_RATE, **common)
    else:
        run = model.fit(splits, cut=_cut(cut), lr=lr, **common)
    model.save(target)
    for line in (*report.outcome(run), f"saved {target}"):
        watcher.line(line)
    if plot:
        from pyflux_transfer.plot import history

        watcher.line(f"drawn {history(run.records, plot)}")


@app.command()
def evaluate(
    bundle: BundleArgument,
    data: Data,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 16,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Score a bundle on labelled photos."""
    from pyflux_transfer.classifier import load

    model = load(bundle, engine=engine, precision=precision)
    found = model.evaluate(data, batch_size=batch_size)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        report.evaluation(found)


@app.command()
def predict(
    files: Annotated[list[Path], typer.Argument(help="A bundle, then photos or folders.")],
    top: Annotated[int, typer.Option(help="Labels an image.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, a line an image.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 16,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Label photos. Unreadable ones are named on stderr and make the exit status 2."""
    from pyflux_transfer import checkpoint
    from pyflux_transfer.data.dataset import Skipped
    from pyflux_transfer.predict import predict as answer
    from pyflux_transfer.predict import restore, sources

    bundle, *images = files
    if not images:
        raise InputError("Give a bundle and at least one photo or folder.")
    named = sources(images)
    read = checkpoint.read(bundle)
    network = restore(read, engine, precision=precision)
    given = [source for _, source in named]
    answers = list(
        answer(network, read.classes, read.preprocessing, given, top=top, batch_size=batch_size)
    )
    good = [item for item in answers if not isinstance(item, Skipped)]
    if as_json:
        for item in good:
            print(json.dumps(item.to_json()))
    elif as_csv:
        _csv((item.name, item.label, item.probability) for item in good)
    else:
        report.predictions(good)
    bad = [item for item in answers if isinstance(item, Skipped)]
    for skipped in bad:
        print(skipped.reason, file=sys.stderr)
    if bad:
        raise typer.Exit(InputError.exit_status)


def _csv(rows: Iterable[tuple[str, str, float]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("name", "label", "probability"))
    writer.writerows(rows)


@app.command()
def summary(
    model: Annotated[str, typer.Argument(help="An architecture or a bundle.")],
    engine: EngineOption = "auto",
) -> None:
    """Show a network's units, shapes and parameter counts."""
    from pyflux_transfer.classifier import load

    load(model, weights=None, engine=engine, precision="fp32").summary()


@app.command()
def features(
    data: Data,
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    arch: Annotated[str, typer.Option(help="Architecture or bundle.")] = "resnet50",
    cut: Annotated[str, typer.Option(help="Take what enters this stage or unit.")] = "head",
    weights: Annotated[str, typer.Option(help="imagenet, a file, or none.")] = "imagenet",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Write the trunk's features of photos, with labels and paths, as .npz."""
    import numpy as np

    from pyflux_transfer.classifier import load

    net = load(arch, weights=_none(weights), engine=engine, precision=precision)
    watcher = report.Terminal()
    found, labels, paths = net.features(data, cut=_cut(cut), watcher=watcher)
    with out.open("wb") as file:
        np.savez(file, features=found, labels=np.array(labels), paths=np.array(paths))
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

    folder = store.cache_folder() / "features"
    if clear:
        print(f"freed {store.clear(folder) / 2**20:,.1f} MiB in {folder}")
    else:
        report.cache(store.entries(folder), str(folder))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("demo-output"),
    engine: EngineOption = "auto",
) -> None:
    """Train on handwritten digits with real ImageNet weights, no download needed."""
    from pyflux_transfer.demo import run

    run(folder, engine)


cli_setup.register(app)
cli_serve.register(app)


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and an exit status."""
    try:
        app()
    except PyFluxTransferError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def _none(text: str) -> str | None:
    return None if text == "none" else text


def _cut(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _valid(text: str) -> str | float | None:
    """A share, a folder, or nothing."""
    try:
        return float(text) or None
    except ValueError:
        return _none(text)
