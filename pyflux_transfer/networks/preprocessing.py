"""How images become arrays in evaluation: numbers only, computed in `data`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.numbers import plain

_MOST = 4096  # pixels a side, which no network here comes near


@dataclass(frozen=True)
class Preprocessing:
    """How the weights want their images in evaluation.

    Resize the shorter side to `resize`, cut the centre `crop` × `crop`, then (value − mean) / std
    on values scaled to 0–1. `background` (0–255) is laid under transparent pixels.
    """

    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, plain(getattr(self, name)))
        sides = (self.crop, self.resize)
        if not (all(map(_whole, sides)) and 0 < self.crop <= self.resize <= _MOST):
            raise InputError(
                f"crop must be positive and at most resize, got {self.crop!r} and "
                f"{self.resize!r}: whole numbers up to {_MOST}."
            )
        if not (_three(self.mean, -math.inf) and _three(self.std, 0)):
            raise InputError(
                "mean and std must be three finite numbers each, std above 0, got "
                f"{self.mean!r} and {self.std!r}."
            )
        levels = self.background
        if not (_three(levels, -1) and all(_whole(x) and x < 256 for x in levels)):
            raise InputError(
                f"background must be three whole numbers from 0 to 255, got {self.background!r}."
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            raise InputError(
                f"interpolation must be 'bilinear' or 'bicubic', got {self.interpolation!r}."
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as the bundle stores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Preprocessing:
        """Return what `to_json` was called on."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        return cls(**values)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _three(values: object, above: float) -> bool:
    """Tell whether values are three finite numbers above a limit."""
    return (
        isinstance(values, tuple)
        and len(values) == 3
        and all(isinstance(x, (int, float)) and above < x < math.inf for x in values)
    )


IMAGENET = Preprocessing()
