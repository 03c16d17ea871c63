"""`pyflux-transfer train`: from a folder of photos to a bundle."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pyflux_transfer.cli import compare, completion, scale
from pyflux_transfer.cli import options as cli_options
from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import (
    INTERRUPTED,
    MAX_PIXELS,
    MAX_SKIPPED,
    ArchOrAuto,
    Cache,
    Data,
    DeviceOption,
    EngineOption,
    FitOption,
    MaxPixels,
    MaxSkipped,
    PrecisionOption,
    Size,
    WeightsOption,
    Workers,
)
from pyflux_transfer.cli.refusals import refuse_effort, refuse_steps
from pyflux_transfer.errors import InputError
from pyflux_transfer.storage import check_writable

if TYPE_CHECKING:
    from pyflux_transfer.classifier import Classifier
    from pyflux_transfer.data.dataset import Splits

Keep = Literal["hidden", "classifier"]
_data = partial(typer.Option, rich_help_panel=cli_options.DATA)
_model = partial(typer.Option, rich_help_panel=cli_options.MODEL)
_steps = partial(typer.Option, rich_help_panel="Training by steps")
_output = partial(typer.Option, rich_help_panel="Output")


def register(app: typer.Typer) -> None:
    """Add `train` to a command line."""
    app.command()(train)


def train(
    context: typer.Context,
    data: Data,
    arch: ArchOrAuto = "resnet50",
    quality: Annotated[
        str, typer.Option(metavar="head|good|best", help="How much is tried.")
    ] = "good",
    minutes: Annotated[
        float | None, typer.Option(help="Try no more after so many; 10, for best 60.", min=0)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Bundle to write; the folder's name and .safetensors.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
    valid: Annotated[
        str,
        _data(metavar="PATH|SHARE", help="Validation photos: a folder, a share (0–1), or none."),
    ] = "auto",
    max_pixels: MaxPixels = MAX_PIXELS,
    max_skipped: MaxSkipped = MAX_SKIPPED,
    seed: Annotated[int, _data(help="Seed of the split, order, head and dropout.", min=0)] = 0,
    weights: WeightsOption = "imagenet",
    size: Size = None,
    fit: FitOption = None,
    hidden: Annotated[list[int] | None, _model(help="Hidden width; repeatable.")] = None,
    dropout: Annotated[float, _model(help="Dropout in the head.")] = 0.0,
    keep: Annotated[Keep | None, _model(help="What of the old head to keep.")] = None,
    cut: Annotated[
        str,
        _steps(
            metavar="STAGE|N",
            help="Train from this stage or unit on.",
            autocompletion=completion.cuts,
        ),
    ] = "head",
    epochs: Annotated[int, _steps(help="Epochs (with --fine-tune: after the head's).", min=1)] = 5,
    lr: Annotated[
        float | None, _steps(help="Learning rate; 1e-3 for the head, 1e-4 deeper.")
    ] = None,
    fine_tune: Annotated[
        int, _steps(help="First the head, then this many last stages.", min=0)
    ] = 0,
    freeze_epochs: Annotated[
        int | None, _steps(help="Epochs of the head alone; by default it is solved.", min=0)
    ] = None,
    batch_size: Annotated[int, _steps(help="Images a step.", min=1)] = 32,
    augment: Annotated[str, _steps(help="none, light, strong, or flip,crop,…")] = "none",
    views: Annotated[int, _steps(help="Cache this many augmented views an image.", min=0)] = 0,
    optimizer: Annotated[
        str,
        _steps(metavar="NAME", help="adamw, adam or sgd.", autocompletion=completion.optimizers),
    ] = "adamw",
    schedule: Annotated[
        str,
        _steps(
            metavar="NAME",
            help="cosine, one-cycle, step or constant.",
            autocompletion=completion.schedules,
        ),
    ] = "cosine",
    lr_decay: Annotated[float, _steps(help="Rate factor a stage downward.")] = 0.3,
    weight_decay: Annotated[float, _steps(help="Weight decay.", min=0)] = 0.01,
    momentum: Annotated[float, _steps(help="Momentum of sgd.")] = 0.9,
    label_smoothing: Annotated[float, _steps(help="Label smoothing (0–1).")] = 0.0,
    balance: Annotated[
        bool, _steps("--balance", help="Weigh classes by inverse frequency.")
    ] = False,
    solver: Annotated[str, _steps(metavar="steps|lbfgs", help="lbfgs: a linear head.")] = "steps",
    patience: Annotated[int | None, _steps(help="Stop after epochs without gain.", min=1)] = None,
    freeze_bn: Annotated[
        bool, _steps(help="Keep BatchNorm's statistics, as is usual.", show_default=False)
    ] = True,
    run_dir: Annotated[Path | None, _output(help="Keep each epoch here, to resume.")] = None,
    resume: Annotated[bool, _output("--resume", help="Go on with the run in --run-dir.")] = False,
    log: Annotated[
        list[str] | None,
        _output(help="tensorboard:DIR, mlflow[:URI] or wandb[:PROJECT]; repeatable."),
    ] = None,
    plot: Annotated[Path | None, _output(help="Draw the history into this image.")] = None,
    page: Annotated[
        Path | None, _output("--report", help="Write a page about the model here.")
    ] = None,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    workers: Workers = 2,
    cache: Cache = True,
    cluster: scale.ClusterOption = "",
    cluster_workers: scale.WorkersOption = None,
    cluster_gpus: scale.GpusOption = 0.0,
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
    from pyflux_transfer.networks.head import Head
    from pyflux_transfer.tracking.tracker import trackers
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
        "run_dir": run_dir, "resume": resume, "cache": cache, "log": trackers(log),
        "watcher": Silent() if quiet else report.Terminal(),
    }  # fmt: skip
    share = cli_options.validation(valid)
    given = _given(context)
    refuse_effort(given, quality, minutes)
    if cluster:
        _refuse_steps(given - ({"arch"} if arch == "auto" else set()), quality)
        net = load(  # the nodes of the cluster compute on `device`, which this machine may not have
            arch, weights=weights, engine=engine, precision=precision, size=size, fit=fit
        )
        model, run = scale.train(
            net, data, target, {k: v for k, v in vars(options).items() if k in given},
            cluster=cluster, workers=cluster_workers, gpus=cluster_gpus, device=device,
            run_dir=run_dir, watcher=common["watcher"],
        )  # fmt: skip
        model.save(target)
        for line in (*run.outcome(), f"saved {target}"):
            common["watcher"].line(line)
        return
    classes = class_names(data)
    head = Head(len(classes), tuple(hidden or ()), dropout, keep=keep)
    refuse_steps(arch, head, cut if "cut" in given else None, epochs, lr, fine_tune)
    source: Path | Splits = data
    if arch == "auto":
        watcher = common["watcher"]
        found, source = compare.best(
            data, given, options, engine, device, precision, cache, watcher, size, fit
        )
        arch, weights = found.architecture, found.weights
    net = load(
        arch, weights=weights, engine=engine, device=device, precision=precision, size=size,
        fit=fit,
    )  # fmt: skip
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
    "class_weights", "engine", "device", "precision", "max_pixels", "quiet", "run_dir", "resume",
    "quality", "cluster", "cluster_workers", "cluster_gpus",
}  # fmt: skip


def _refuse_steps(given: Collection[str], quality: str) -> None:
    """Raise InputError for options of `train` that mean more than solving a head."""
    if other := sorted(set(given) - _ON_CLUSTER):
        raise InputError(f"--cluster solves the head, by the recipe. Leave --{other[0]} out.")
    if "quality" in given and quality != "head":
        raise InputError("--cluster solves the head. Leave --quality out, or give head.")
    if "arch" not in given:
        raise InputError("--cluster trains a network that is named. Give --arch.")
