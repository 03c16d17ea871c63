"""`pyflux-transfer predict`: labels for photos, from a bundle or from a running service."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.options import (
    MAX_PIXELS,
    BatchSize,
    EngineOption,
    MaxPixels,
    PrecisionOption,
    bundle_path,
)
from pyflux_transfer.errors import InputError, readable
from pyflux_transfer.storage import check_writable

if TYPE_CHECKING:
    from pyflux_transfer.data.dataset import Skipped
    from pyflux_transfer.engines.base import Precision
    from pyflux_transfer.explain import Explanation
    from pyflux_transfer.predict import Prediction

_MISSING = "--url needs more packages ({}). Run: pip install 'pyflux-transfer[serve]'"


def register(app: typer.Typer) -> None:
    """Add `predict` to a command line."""
    app.command()(predict)


def predict(
    files: Annotated[list[Path], typer.Argument(help="A bundle, then photos or folders.")],
    url: Annotated[str, typer.Option(help="Ask this service; give photos alone.")] = "",
    api_key: Annotated[
        str, typer.Option(help="Its key.", envvar="PYFLUX_API_KEY", show_envvar=True)
    ] = "",
    top: Annotated[int, typer.Option(help="Labels an image.")] = 3,
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
    batch_size: BatchSize = 16,
    max_pixels: MaxPixels = MAX_PIXELS,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Label photos. Unreadable ones are named on stderr and make the exit status 2."""
    if as_json and as_csv:
        raise InputError("Choose one of --json and --csv.")
    if explain and url:
        raise InputError("--explain computes here. Give the bundle, and leave --url out.")
    if keep is not None and url:
        raise InputError("--keep is for a bundle. The service keeps what its bundle says.")
    show: Callable[[Iterable[Prediction]], None] = report.predictions
    if as_json or as_csv:
        show = _json if as_json else _csv
    answers = (
        _asked(url, api_key, files, top)
        if url
        else _computed(files, top, batch_size, max_pixels, engine, precision, explain, keep)
    )
    bad: list[Skipped] = []
    show(_readable(answers, bad))
    if bad:
        raise typer.Exit(InputError.exit_status)


def _computed(
    files: Sequence[Path],
    top: int,
    batch_size: int,
    max_pixels: int,
    engine: str,
    precision: Precision,
    folder: Path | None,
    keep: float | None,
) -> Iterator[Prediction | Skipped]:
    from pyflux_transfer import bundle as bundles
    from pyflux_transfer.explain import explain
    from pyflux_transfer.insight.belonging import kept
    from pyflux_transfer.predict import predict as answer
    from pyflux_transfer.predict import restore, sources

    first, *photos = files
    if not photos:
        raise InputError(f"Give photos or folders to label after the bundle '{first}'.")
    given = [source for _, source in sources(photos)]  # a wrong path is told at once
    bundle = bundles.read(bundle_path(first))
    network = restore(bundle, engine, precision=precision)
    common: dict[str, Any] = {
        "top": top, "batch_size": batch_size, "temperature": bundle.temperature,
        "belonging": kept(bundle.belonging, keep), "max_pixels": max_pixels,
    }  # fmt: skip
    whole = (network, bundle.classes, bundle.preprocessing, given)
    if folder is None:
        return answer(*whole, **common, note=_note)
    check_writable(folder / "photo.png")
    return _drawn(explain(*whole, **common), folder)


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


def _readable(answers: Iterator[Prediction | Skipped], bad: list[Skipped]) -> Iterator[Prediction]:
    """Yield the predictions as they come; name what is skipped on stderr, and remember it."""
    from pyflux_transfer.data.dataset import Skipped

    for answer in answers:
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
    writer.writerow(("name", "label", "probability", "belonging", "sure"))
    for answer in answers:
        sure = "" if answer.sure is None else "yes" if answer.sure else "no"
        row = (answer.name, answer.label, answer.probability, answer.belonging, sure)
        writer.writerow(row)
