"""What a tracker is told of a run, and how one is chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from pyflux_transfer.errors import InputError, lookup

Value = str | int | float | bool


class Tracker(Protocol):
    """Keeps what a run does. Whatever a method raises ends the telling, never the training."""

    def start(self, name: str) -> None:
        """Begin a run of this name; called first, so that what cannot be had is told at once."""

    def parameters(self, values: Mapping[str, Value]) -> None:
        """Keep how the run was set up."""

    def metrics(self, values: Mapping[str, float], epoch: int | None) -> None:
        """Keep measures of an epoch, or of the whole run."""

    def picture(self, name: str, png: bytes) -> None:
        """Keep a picture."""

    def text(self, name: str, text: str) -> None:
        """Keep what the run has said."""

    def file(self, path: Path) -> None:
        """Keep a copy of a file: the bundle."""

    def end(self, status: str) -> None:
        """End the run: finished, failed or interrupted."""


Log = str | Tracker | Sequence[str | Tracker] | None

# name → module and class; the class takes what stands behind the colon
TRACKERS = {
    "tensorboard": ("pyflux_transfer.tracking.tensorboard", "TensorBoard"),
    "mlflow": ("pyflux_transfer.tracking.mlflow", "MLflow"),
    "wandb": ("pyflux_transfer.tracking.wandb", "WandB"),
}


def trackers(log: Log) -> list[Tracker]:
    """Return what `log` names: "tensorboard:DIR", "mlflow[:URI]", "wandb[:PROJECT]", or trackers.

    Raises InputError for an unknown name, and where a library is missing.
    """
    given = [] if log is None else [log] if isinstance(log, str) or _is_one(log) else list(log)  # type: ignore[arg-type]
    return [_named(one) if isinstance(one, str) else one for one in given]  # type: ignore[misc]


def missing(library: str, extra: str) -> InputError:
    """Return the error of a tracker whose library is not installed."""
    return InputError(
        f"Logging to {library} needs it installed: pip install 'pyflux-transfer[{extra}]'."
    )


def _is_one(log: object) -> bool:
    return callable(getattr(log, "parameters", None))


def _named(text: str) -> Tracker:
    # A colon of a Windows drive stands behind the first one.
    name, _, rest = text.partition(":")
    module, kind = lookup(TRACKERS, re.sub(r"\s", "", name.casefold()), "tracker")
    make: Callable[[str], Tracker] = getattr(import_module(module), kind)
    return make(rest.strip())
