"""How good a model is likely to be on photos it has not seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """What cross-validation tells: each photo judged by a head that has not learnt from it.

    `accuracy` (0–1) and `log_loss` (nats, class weights applied, before the temperature) come with
    their standard errors over photos, or over groups of photos where these are told; `decay` is
    the strength they were lowest with, of `tried` strengths. The choice among so few flatters both
    a little.
    """

    accuracy: float
    accuracy_error: float
    log_loss: float
    log_loss_error: float
    folds: int
    decay: float
    tried: int

    def sentence(self) -> str:
        """Return the accuracy as one would say it."""
        return f"cross-validated accuracy {self.figures()}"

    def figures(self) -> str:
        """Return the accuracy and its standard error in percent."""
        return f"{100 * self.accuracy:.1f} ± {100 * self.accuracy_error:.1f} %"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)
