"""How images become arrays in evaluation: numbers only, computed in `data`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.networks.numbers import plain

Fit = Literal["crop", "pad", "stretch"]
FITS = ("crop", "pad", "stretch")
_MOST = 4096  # pixels a side, which no network here comes near


@dataclass(frozen=True)
class Preprocessing:
    """How the weights want their images in evaluation.

    `fit` makes them `crop` × `crop`: "crop" resizes the shorter side to `resize` and cuts the
    centre, "pad" shows the whole photo, its longer side `crop`, on `background`, "stretch" shows
    the whole photo whatever its shape. Then (value − mean) / std on values scaled to 0–1.
    `background` (0–255) is laid under transparent pixels, too.
    """

    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    background: tuple[int, int, int] = (255, 255, 255)
    fit: Fit = "crop"

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
        lookup(dict.fromkeys(FITS), self.fit, "fit")

    def sized(self, size: int | None = None, fit: Fit | None = None) -> Preprocessing:
        """Return this for images of another size or fit; None keeps what is there.

        `size` becomes `crop`, and `resize` keeps its proportion to it, rounded: 224 cut from 256
        becomes 384 cut from 439. Raises InputError for a size that cannot be.
        """
        size, fit = self.crop if size is None else plain(size), self.fit if fit is None else fit
        most = _MOST * self.crop // self.resize
        if not _whole(size) or not 0 < size <= most:
            raise InputError(f"size must be a whole number from 1 to {most}, got {size!r}.")
        return replace(self, crop=size, resize=round(size * self.resize / self.crop), fit=fit)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as the bundle stores it; without `fit` where it is "crop".

        So the usual is what it was before there was a choice, and a version that knows of none
        refuses what it would misread.
        """
        row = asdict(self)
        return {name: row[name] for name in row if (name, row[name]) != ("fit", "crop")}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Preprocessing:
        """Return what `to_json` was called on; raise InputError for what this version lacks."""
        if unknown := sorted(set(row) - set(cls.__dataclass_fields__)):
            raise InputError(f"preprocessing has unknown fields {unknown}. Upgrade pyflux-transfer")
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
