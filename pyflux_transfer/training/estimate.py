"""How good a model is likely to be on photos it has not seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """What photos held out tell: each is judged by a model that has not learnt from it.

    `accuracy` (0–1) and `log_loss` (nats, class weights and temperature applied) come with their
    standard errors over the `photos` that judged, or over groups of them where these are told.
    `decay` is the head's, chosen among `tried`; `deeper` names what else was trained. That the
    best of several was chosen flatters both a little.
    """

    accuracy: float
    accuracy_error: float
    log_loss: float
    log_loss_error: float
    photos: int
    folds: int
    decay: float
    tried: int
    deeper: str | None = None

    def sentence(self) -> str:
        """Return the accuracy as one would say it."""
        return f"cross-validated accuracy {self.figures()}"

    def figures(self) -> str:
        """Return the accuracy and its standard error in percent."""
        return f"{100 * self.accuracy:.1f} ± {100 * self.accuracy_error:.1f} %"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def standard_error(parts: NDArray[np.floating], bunches: NDArray[np.int64]) -> float:
    """Return the standard error of the parts' sum; those of one bunch (N,) err together.

    Cluster-robust, as in Liang & Zeger 1986.
    """
    return float(np.sqrt((np.bincount(bunches, parts) ** 2).sum()))
