"""`pyflux-transfer train`: from a folder of photos to a bundle."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pyflux_transfer.cli import compare, scale
from pyflux_transfer.cli import options as cli_options
from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import (
    MAX_PIXELS,
    MAX_SKIPPED,
    ArchOrAuto,
    Cache,
    Data,
    EngineOption,
    FitOption,
    MaxPixels,
    MaxSkipped,
    PrecisionOption,
    Size,
    WeightsOption,
)
from pyflux_transfer.errors import InputError
from pyflux_transfer.storage import check_writable

if TYPE_CHECKING:
    from pyflux_transfer.classifier import Classifier
    from pyflux_transfer.data.dataset import Splits

Keep = Literal["hidden", "classifier"]
INTERRUPTED = 130  # what a shell expects after Ctrl-C


def register(app: typer.Typer) -> None:
    """Add `train` to a command line."""
    app.command()(train)


def train(
    context: typer.Context,
    data: Data,
    arch: ArchOrAuto = "resnet50",
    quality: Annotated[str, typer.Option(help="head, good or best: how much is tried.")] = "good",
    minutes: Annotated[float | None, typer.Option(help="Try no more after so many.")] = None,
    out: Annotated[Path | None, typer.Option(help="Bundle to write; <folder>.safetensors.")] = None,
    valid: Annotated[str, typer.Option(help="Validation folder, share (0–1), or none.")] = "auto",
    cut: Annotated[str, typer.Option(help="Train from this stage or unit on.")] = "head",
    epochs: Annotated[int, typer.Option(help="Epochs (with --fine-tune: after the head's).")] = 5,
    fine_tune: Annotated[int, typer.Option(help="First the head, then this many last stages.")] = 0,
    freeze_epochs: Annotated[
        int | None, typer.Option(help="Epochs of the head alone; by default it is solved.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; 1e-3 head, 1e-4 deeper.")] = None,
    weights: WeightsOption = "imagenet",
    size: Size = None,
    fit: FitOption = None,
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
    momentum: Annotated[float, typer.Option(help="Momentum of sgd.")] = 0.9,
    label_smoothing: Annotated[float, typer.Option(help="Label smoothing (0–1).")] = 0.0,
    balance: Annotated[bool, typer.Option(help="Weigh classes by inverse frequency.")] = False,
    solver: Annotated[str, typer.Option(help="steps, or lbfgs for a linear head.")] = "steps",
    patience: Annotated[int | None, typer.Option(help="Stop after epochs without gain.")] = None,
    freeze_bn: Annotated[bool, typer.Option(help="Keep BatchNorm's statistics.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the split, order, head and dropout.")] = 0,
    run_dir: Annotated[Path | None, typer.Option(help="Keep each epoch here, to resume.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --run-dir.")] = False,
    cache: Cache = True,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_skipped: MaxSkipped = MAX_SKIPPED,
    workers: Annotated[int, typer.Option(help="Threads that decode images.")] = 2,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    plot: Annotated[Path | None, typer.Option(help="Draw the history into this image.")] = None,
    page: Annotated[
        Path | None, typer.Option("--report", help="Write a page about the model here.")
    ] = None,
    cluster: scale.ClusterOption = "",
    cluster_workers: scale.WorkersOption = None,
    cluster_gpus: scale.GpusOption = 0.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Train a classifier on a folder of photos and save it as one file.

    Without options the head is solved to its optimum on all photos, deeper stages train where that
    pays, and cross-validation says how good the model is. An option of steps (--epochs, --lr,
    --cut …) trains by steps. Ctrl-C ends it early and saves the best so far.
    """
    from pyflux_transfer import reporting
    from pyflux_transfer.classifier import DEEPER_RATE, SHARE, load
    from pyflux_transfer.data.dataset import class_names
    from pyflux_transfer.insight.plot import drawable
    from pyflux_transfer.insight.plot import history as draw
    from pyflux_transfer.training.callbacks import Silent
    from pyflux_transfer.training.options import Options

    # What can be refused is refused before anything takes time.
    options = Options(
        optimizer=optimizer, lr_decay=lr_decay, schedule=schedule, weight_decay=weight_decay,
        momentum=momentum, label_smoothing=label_smoothing,
        class_weights="auto" if balance else None, augment=augment, views=views,
        batch_size=batch_size, seed=seed, patience=patience, freeze_bn=freeze_bn, solver=solver,
        workers=workers, max_pixels=max_pixels, max_skipped=max_skipped,
    )  # fmt: skip
    if fine_tune and cut != "head":
        raise InputError("--fine-tune chooses the cuts itself. Leave --cut out.")
    target = _target(out, data)
    if plot:
        drawable(plot)
        check_writable(plot)
    if page:
        reporting.prepared(page)
    common: dict[str, Any] = {
        "run_dir": run_dir, "resume": resume, "cache": cache,
        "watcher": Silent() if quiet else report.Terminal(),
    }  # fmt: skip
    share = cli_options.validation(valid)
    given = _given(context)
    classes = () if cluster else class_names(data)  # where photos are named is read once there
    source: Path | Splits = data
    if cluster:
        _refuse_steps(given - ({"arch"} if arch == "auto" else set()), quality)
        net = load(arch, weights=weights, engine=engine, precision=precision, size=size, fit=fit)
        model, run = scale.train(
            net, data, target, {k: v for k, v in vars(options).items() if k in given},
            cluster=cluster, workers=cluster_workers, gpus=cluster_gpus, run_dir=run_dir,
            watcher=common["watcher"],
        )  # fmt: skip
        model.save(target)
        for line in (*run.outcome(), f"saved {target}"):
            common["watcher"].line(line)
        return
    if arch == "auto":
        watcher = common["watcher"]
        found, source = compare.best(
            data, given, options, engine, precision, cache, watcher, size, fit
        )
        arch, weights = found.architecture, found.weights
    net = load(arch, weights=weights, engine=engine, precision=precision, size=size, fit=fit)
    model = _headed(net, classes, hidden or (), dropout, keep, seed)
    try:
        if fine_tune:
            rate = DEEPER_RATE if lr is None else lr
            run = model.fine_tune(
                source, fine_lr=rate, depth=fine_tune, freeze_epochs=freeze_epochs, epochs=epochs,
                valid=SHARE if share == "auto" else share, **vars(options), **common,
            )  # fmt: skip
        else:
            chosen = {k: v for k, v in vars(options).items() if k in given}
            run = model.fit(
                source, valid=share, lr=lr, minutes=minutes, **chosen, **common,
                quality=quality if "quality" in given else None,
                cut=cli_options.cut(cut) if "cut" in given else None,
                epochs=epochs if "epochs" in given else None,
            )  # fmt: skip
    except KeyboardInterrupt:
        print("interrupted before the first epoch has ended: nothing is saved", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    model.save(target)
    say = common["watcher"].line
    for line in (*run.outcome(), f"saved {target}"):
        say(line)
    if plot:
        say(f"drawn {draw(run.records, plot)}")
    if page:
        reporting.report(
            model, source, page, max_pixels=max_pixels, max_skipped=max_skipped, seen=True,
            watcher=common["watcher"],
        )  # fmt: skip
        say(f"written {page}")
    if run.stopped == "interrupted":
        if run_dir:
            say("The same command with --resume goes on with it.")
        raise typer.Exit(INTERRUPTED)


def _given(context: typer.Context) -> set[str]:
    """Return the options that were given, whatever their values, as those of `fit` are named."""
    names = cli_options.given(context)
    return names | ({"class_weights"} if "balance" in names else set())


def _target(out: Path | None, data: Path) -> Path:
    """Return the bundle to write, named after the data where no name is given."""
    place = data.resolve()
    target = out or Path(f"{place.name if place.is_dir() else place.stem}.safetensors")
    if target.suffix != ".safetensors":
        raise InputError(f"--out must name a .safetensors file, got '{target}'.")
    check_writable(target)
    return target


def _headed(
    net: Classifier,
    classes: Sequence[str],
    hidden: Sequence[int],
    dropout: float,
    keep: Keep | None,
    seed: int,
) -> Classifier:
    """Return the network with a new head; a bundle of the same classes goes on with its own."""
    if net.classes == tuple(classes) and not (hidden or dropout or keep):
        return net
    return net.with_head(classes, hidden=hidden, dropout=dropout, keep=keep, seed=seed)


_ON_CLUSTER = {
    "data", "arch", "weights", "size", "fit", "out", "seed", "label_smoothing", "balance",
    "class_weights", "engine", "precision", "max_pixels", "quiet", "run_dir", "resume", "quality",
    "cluster", "cluster_workers", "cluster_gpus",
}  # fmt: skip


def _refuse_steps(given: Collection[str], quality: str) -> None:
    """Raise InputError for options of `train` that mean more than solving a head."""
    if other := sorted(set(given) - _ON_CLUSTER):
        raise InputError(f"--cluster solves the head, by the recipe. Leave --{other[0]} out.")
    if "quality" in given and quality != "head":
        raise InputError("--cluster solves the head. Leave --quality out, or give head.")
    if "arch" not in given:
        raise InputError("--cluster trains a network that is named. Give --arch.")
