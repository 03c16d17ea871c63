"""How images become arrays in evaluation: numbers only, computed in `data`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pyflux_transfer.errors import InputError


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
        if not 0 < self.crop <= self.resize:
            raise InputError(
                f"crop must be positive and at most resize, got {self.crop} and {self.resize}."
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


IMAGENET = Preprocessing()
