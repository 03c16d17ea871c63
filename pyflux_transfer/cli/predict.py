"""`pyflux-transfer predict`: labels for photos, from a bundle or from a running service."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyflux_transfer.cli import scale
from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import (
    INTERRUPTED,
    MAX_PIXELS,
    BatchSize,
    DeviceOption,
    EngineOption,
    MaxPixels,
    PrecisionOption,
    bundle_path,
)
from pyflux_transfer.cli.streaming import COLUMNS, Answers, cells, form
from pyflux_transfer.errors import InputError, counted, readable
from pyflux_transfer.insight.tables import errors
from pyflux_transfer.storage import alone, check_writable

if TYPE_CHECKING:
    from pyflux_transfer.bundle import Bundle
    from pyflux_transfer.data.dataset import Skipped
    from pyflux_transfer.data.decode import Source
    from pyflux_transfer.engines.base import Device, Precision
    from pyflux_transfer.explain import Explanation
    from pyflux_transfer.predict import Prediction

_MISSING = "--url needs more packages ({}). Run: pip install 'pyflux-transfer[serve]'"


def register(app: typer.Typer) -> None:
    """Add `predict` to a command line."""
    app.command()(predict)


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE PHOTOS", help="A bundle, then photos or folders."),
    ],
    top: Annotated[int, typer.Option(help="Labels an image.", min=1)] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, a line an image.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
    keep: Annotated[
        float | None,
        typer.Option(
            help="Share of photos of the known classes that shall be sure. [default: 0.95]"
        ),
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(help="Write photos with heat maps into this folder.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Keep answers in this .csv or .jsonl, with --shard or --cluster in this folder; "
            "the same command goes on there."
        ),
    ] = None,
    url: Annotated[
        str, typer.Option(help="Ask this service; give photos alone.", rich_help_panel="Service")
    ] = "",
    api_key: Annotated[
        str,
        typer.Option(
            help="Its key.", envvar="PYFLUX_API_KEY", show_envvar=True, rich_help_panel="Service"
        ),
    ] = "",
    batch_size: BatchSize = 16,
    max_pixels: MaxPixels = MAX_PIXELS,
    shard: scale.ShardOption = "",
    cluster: scale.ClusterOption = "",
    workers: scale.WorkersOption = None,
    gpus: scale.GpusOption = 0.0,
    form: scale.FormatOption = "parquet",
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Label photos. Unreadable ones are named on stderr and make the exit status 2.

    With --out each answer is written as it comes, so that Ctrl-C loses none: the same command goes
    on with the photos that have no answer by this bundle yet, or have changed since.
    """
    if as_json and as_csv:
        raise InputError("Choose one of --json and --csv.")
    if explain and url:
        raise InputError("--explain computes here. Give the bundle, and leave --url out.")
    if keep is not None and url:
        raise InputError("--keep is for a bundle. The service keeps what its bundle says.")
    if shard or cluster:
        job = scale.predictions(files, batch_size, max_pixels, engine, device, precision, keep)
        if scale.do(
            job, str(files[1]), out, shard=shard, cluster=cluster, workers=workers, gpus=gpus,
            form=form,
        ).unreadable:  # fmt: skip
            raise typer.Exit(InputError.exit_status)
        return
    if out:
        _refuse_beside(out, as_json or as_csv, url)
    show: Callable[[Iterable[Prediction]], None] = report.predictions
    if as_json or as_csv:
        show = _json if as_json else _csv
    bad: list[Skipped] = []
    if url:
        show(_readable(_asked(url, api_key, files, top), bad))
    else:
        asked = Asked(top, batch_size, max_pixels, engine, device, precision, explain, keep)
        if out:
            with alone(out):
                _kept(files, asked, out, bad)
        else:
            show(_readable(_computed(*_given(files), asked), bad))
    if bad:
        raise typer.Exit(InputError.exit_status)


@dataclass(frozen=True)
class Asked:
    """How photos are to be answered."""

    top: int
    batch_size: int
    max_pixels: int
    engine: str
    device: Device
    precision: Precision
    maps: Path | None  # folder of heat maps
    keep: float | None  # share of the known classes' photos that shall be sure


def _given(files: Sequence[Path]) -> tuple[Path, list[Source]]:
    """Return the bundle and the photos; a wrong path is told before anything takes time."""
    from pyflux_transfer.predict import sources

    first, *photos = files
    bundle = bundle_path(first)
    if not photos:
        raise InputError(f"Give photos or folders to label after the bundle '{first}'.")
    return bundle, [source for _, source in sources(photos)]


def _computed(
    place: Path, photos: Sequence[Source], asked: Asked, bundle: Bundle | None = None,
    count: int | None = None,
) -> Iterator[Prediction | Skipped]:  # fmt: skip
    """Answer photos; `count` is that of all, where these are what is left of them."""
    from pyflux_transfer import bundle as bundles
    from pyflux_transfer.explain import explain
    from pyflux_transfer.insight.belonging import kept
    from pyflux_transfer.predict import engine_for, restore
    from pyflux_transfer.predict import predict as answer

    bundle = bundle or bundles.read(place)
    maps, many = asked.maps is not None, count or len(photos)
    engine, why = engine_for(
        bundle, asked.engine, asked.device, asked.precision, photos=many, maps=maps
    )
    if sys.stderr.isatty():
        print(why, file=sys.stderr)
    # A heat map may take many passes.
    network = restore(bundle, engine, asked.device, asked.precision, photos=None if maps else many)
    common: dict[str, Any] = {
        "top": asked.top, "batch_size": asked.batch_size, "temperature": bundle.temperature,
        "belonging": kept(bundle.belonging, asked.keep), "max_pixels": asked.max_pixels,
    }  # fmt: skip
    whole = (network, bundle.classes, bundle.preprocessing, photos)
    if asked.maps is None:
        return answer(*whole, **common, note=_note)
    check_writable(asked.maps / "photo.png")
    return _drawn(explain(*whole, **common), asked.maps)


def _refuse_beside(out: Path, printed: bool, url: str) -> None:
    """Refuse a file of answers that cannot be, before anything takes time."""
    if printed:
        raise InputError("The ending of --out says how it is written. Leave --json and --csv out.")
    if url:
        raise InputError("--out knows answers by their bundle. With --url write: --csv > FILE")
    form(out)
    check_writable(out)


def _kept(files: Sequence[Path], asked: Asked, out: Path, bad: list[Skipped]) -> None:
    """Answer the photos that `out` has no answer of; what is there stays, however this ends."""
    from pyflux_transfer import bundle as bundles

    place, given = _given(files)
    photos = [Path(source) for source in given if isinstance(source, (str, Path))]
    if len(photos) < len(given):
        raise InputError("--out knows photos by their files. For images in a table write: --csv")
    bundle = bundles.read(place)
    answered = Answers(out, place, min(asked.top, len(bundle.classes)), asked.keep)
    waiting = answered.pending(photos)
    done = len(set(photos)) - len(waiting)
    if done:
        print(f"{counted(done, 'photo')} answered before in {out}", file=sys.stderr)
    if not waiting:
        return
    answers = answered.keeping(_computed(place, waiting, asked, bundle, len(photos)))
    try:
        with report.Terminal(errors).bar("predicting", len(waiting)) as advance:
            for _ in _readable(answers, bad, advance):
                done += 1
    except KeyboardInterrupt:
        print(
            f"interrupted: {out} has {counted(done, 'answer')}. The same command goes on.",
            file=sys.stderr,
        )
        raise typer.Exit(INTERRUPTED) from None
    print(f"written {out}: {counted(done, 'answer')}", file=sys.stderr)


def _drawn(
    answers: Iterator[Explanation | Skipped], folder: Path
) -> Iterator[Prediction | Skipped]:
    """Write each photo under its heat map, named after it, and pass the predictions on."""
    from pyflux_transfer.data.dataset import Skipped

    taken: Counter[str] = Counter()
    for found in answers:
        if isinstance(found, Skipped):
            yield found
            continue
        stem = Path(found.prediction.name).stem or "photo"
        taken[stem] += 1
        again = f"-{taken[stem]}" if taken[stem] > 1 else ""
        found.save(folder / f"{stem}{again}.png")
        yield found.prediction


def _asked(url: str, key: str, files: Sequence[Path], top: int) -> Iterator[Prediction | Skipped]:
    try:
        from pyflux_transfer.serving.client import predict as ask
    except ModuleNotFoundError as error:
        raise InputError(_MISSING.format(error.name)) from None
    if files[0].suffix == ".safetensors":
        raise InputError(f"With --url the service has the bundle. Leave '{files[0]}' out.")
    return ask(url, files, top=top, key=key)


def _note(text: str) -> None:
    print(readable(text), file=sys.stderr)


def _readable(
    answers: Iterator[Prediction | Skipped],
    bad: list[Skipped],
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[Prediction]:
    """Yield the predictions as they come; name what is skipped on stderr, and remember it."""
    from pyflux_transfer.data.dataset import Skipped

    for answer in answers:
        advance(1)
        if isinstance(answer, Skipped):
            print(readable(answer.reason), file=sys.stderr)
            bad.append(answer)
        else:
            yield answer


def _json(answers: Iterable[Prediction]) -> None:
    for answer in answers:
        print(json.dumps(answer.to_json()), flush=True)


def _csv(answers: Iterable[Prediction]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for answer in answers:
        writer.writerow(cells(answer))
        sys.stdout.flush()
