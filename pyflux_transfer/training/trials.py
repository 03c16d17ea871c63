"""Trials of a search, kept in a run folder: an interrupted search goes on behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pyflux_transfer.bundle import read_tensors, write_tensors
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training import runs
from pyflux_transfer.training.verdict import Ints

FOLDER = "trials"
_BELONGING = "belonging "


@dataclass(frozen=True)
class Trial:
    """What was said of photos that a way of training had not seen."""

    photos: Ints  # (M,) their numbers
    logits: dict[float, Array]  # (M, C), by how far was gone from start to end
    belonging: dict[float, Array] = field(default_factory=dict)  # (M,), likewise


@dataclass(frozen=True)
class Trials:
    """Trials by key, in a folder; without one nothing is kept."""

    folder: Path | None = None

    @classmethod
    def of(cls, run: Path | None, resume: bool) -> Trials:
        """Return those of a run folder; raise InputError where it holds another run."""
        if run is None:
            return cls()
        folder = run / FOLDER
        if (run / runs.FILE).exists():
            raise InputError(
                f"{run} holds a run by steps. Go on with its options (epochs=, cut= …), or choose "
                "another folder."
            )
        if not resume and any(folder.glob("*.safetensors")):
            raise runs.existing(run)
        return cls(folder)

    def read(self, key: str) -> Trial | None:
        """Return a trial, None where there is none."""
        if self.folder is None or not (path := self._path(key)).exists():
            return None
        tensors, _ = read_tensors(path)
        photos = np.asarray(tensors.pop("photos"), np.int64)
        belonging = {
            float(name.removeprefix(_BELONGING)): tensors.pop(name)
            for name in list(tensors)
            if name.startswith(_BELONGING)
        }
        return Trial(photos, {float(name): value for name, value in tensors.items()}, belonging)

    def write(self, key: str, trial: Trial) -> None:
        """Keep a trial."""
        if self.folder is not None:
            logits = {str(kept): value for kept, value in trial.logits.items()}
            scores = {f"{_BELONGING}{kept}": value for kept, value in trial.belonging.items()}
            write_tensors(self._path(key), {"photos": trial.photos, **logits, **scores}, {})

    def _path(self, key: str) -> Path:
        assert self.folder
        return self.folder / f"{key}.safetensors"


NONE_KEPT = Trials()
