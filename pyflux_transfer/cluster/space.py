"""What a search chooses among, and how one choice is tried."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.comparison import named
from pyflux_transfer.data.dataset import Splits
from pyflux_transfer.engines.base import Precision
from pyflux_transfer.errors import DataError, ImageError, PyFluxTransferError
from pyflux_transfer.networks.units import stages
from pyflux_transfer.training.callbacks import Record, Silent
from pyflux_transfer.training.features import Cache

DEPTHS = (0, 1, 2)  # last stages that train besides the head
RATES = (3e-5, 1e-3)  # of deeper steps
AUGMENTS = ("none", "flip", "crop", "light")
DECAYS = (1e-5, 1e-1)
Report = Callable[[int, float], bool]  # (epoch, log loss) → whether to go no further


@dataclass(frozen=True)
class Choice:
    """One point of the space; the head alone has neither a rate nor an augmentation."""

    network: str
    depth: int
    decay: float
    lr: float | None = None
    augment: str = "none"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def chosen(trial: Any, networks: Sequence[str]) -> Choice:
    """Let Optuna's trial choose a point."""
    network = trial.suggest_categorical("network", list(networks))
    depth = trial.suggest_categorical("depth", list(DEPTHS))
    decay = trial.suggest_float("decay", *DECAYS, log=True)
    if not depth:
        return Choice(network, depth, decay)
    lr = trial.suggest_float("lr", *RATES, log=True)
    return Choice(network, depth, decay, lr, trial.suggest_categorical("augment", list(AUGMENTS)))


@dataclass(frozen=True)
class Setting:
    """What all trials of a search share. `photos` hold training and validation images, no test."""

    photos: Splits
    epochs: int = 5
    seed: int = 0
    engine: str = "auto"
    precision: Precision = "auto"
    cache: bool | Cache = True


@dataclass(frozen=True)
class Outcome:
    """How a choice did on the validation images; `error` where it could not be tried.

    `ended` says that it was given up early. `bundle` is the model's file, where it is better than
    what there was.
    """

    loss: float | None = None
    accuracy: float | None = None
    cut: str = ""
    seconds: float = 0.0
    ended: bool = False
    error: str = ""
    bundle: bytes | None = None


class EndedError(Exception):
    """A trial that others have outdone ends here."""


def attempt(setting: Setting, choice: Choice, best: float, report: Report) -> Outcome:
    """Train by a choice and judge it. Only photos that cannot be used stop the search."""
    begun, cut = time.perf_counter(), ""
    try:
        one = named(choice.network)
        net = load(
            one.architecture, weights=one.weights, engine=setting.engine,
            precision=setting.precision, seed=setting.seed,
        )  # fmt: skip
        model = net.with_head(setting.photos.train.classes, seed=setting.seed)
        body = [stage for stage in stages(model.units) if stage != "head"]
        cut = body[-min(choice.depth, len(body))] if choice.depth else "head"
        record = _trained(model, setting, choice, cut, report)
    except EndedError:
        return Outcome(cut=cut, seconds=time.perf_counter() - begun, ended=True)
    except (DataError, ImageError):
        raise
    except PyFluxTransferError as error:
        return Outcome(cut=cut, seconds=time.perf_counter() - begun, error=str(error))
    loss = record.valid_loss
    better = loss is not None and loss < best
    return Outcome(
        loss, record.valid_accuracy, cut, time.perf_counter() - begun,
        bundle=_file(model) if better else None,
    )  # fmt: skip


def _trained(
    model: Classifier, setting: Setting, choice: Choice, cut: str, report: Report
) -> Record:
    cache = Cache.of(setting.cache)
    common: dict[str, Any] = {
        "valid": None, "weight_decay": choice.decay, "seed": setting.seed,
        "cache": replace(cache, wait_s=3600.0),  # other trials want the same features
    }  # fmt: skip
    if not choice.depth:
        return model.fit(setting.photos, cut=cut, solver="lbfgs", **common).best
    return model.fit(
        setting.photos, cut=cut, epochs=setting.epochs, lr=choice.lr, augment=choice.augment,
        watcher=_Reports(report), **common,
    ).best  # fmt: skip


class _Reports(Silent):
    """Tells each epoch's loss, and ends the run where it is told to."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def epoch(self, record: Record, epochs: int) -> None:
        """Tell, but for the last epoch, which ends by itself."""
        if record.valid_loss is None or record.epoch == epochs:
            return
        if self._report(record.epoch, record.valid_loss):
            raise EndedError


def _file(model: Classifier) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pyflux-search-") as folder:
        return model.save(Path(folder) / "m.safetensors").read_bytes()
