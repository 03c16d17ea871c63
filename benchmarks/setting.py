"""What all rows share: where the photos lie, how long to measure, what the machine can do."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import measure, photos


@dataclass
class Setting:
    """The prepared folder, and how much of the peer's epochs to run: all of them in a full run."""

    folder: Path
    full: bool
    tiny: bool
    ceiling: dict[str, float]  # FLOP/s by precision
    flops: dict[str, float]  # of one image by architecture
    ceiling_by: dict[str, str]  # what reached it
    _caches: itertools.count = field(default_factory=itertools.count)  # type: ignore[type-arg]

    @classmethod
    def prepare(cls, folder: Path, *, full: bool, tiny: bool) -> Setting:
        """Write photos and weights, measure the ceiling."""
        sizes = (6, 12, 8) if tiny else (300, photos.TRAIN, photos.VALID)
        large, train, valid = sizes
        made = measure.process(
            "prepare", folder / "cache", folder=folder, large=large, train=train, valid=valid
        )
        found, flops = made.report["ceiling"], made.report["flops"]
        best = {precision: row["flops"] for precision, row in found.items()}
        by = {precision: row["by"] for precision, row in found.items()}
        return cls(folder, full, tiny, best, flops, by)

    @property
    def insects(self) -> Path:
        """Small photos in train/ and val/."""
        return self.folder / "insects"

    @property
    def large(self) -> Path:
        """Photos of 1–12 megapixels."""
        return self.folder / "large"

    def weights(self, architecture: str) -> Path:
        """Return the weights both sides start from."""
        return self.folder / f"{architecture}.safetensors"

    def cold(self, module: str, **arguments: Any) -> measure.Cost:
        """Run a process that finds nothing from earlier runs in its cache."""
        return measure.process(module, self.folder / f"cache{next(self._caches)}", **arguments)

    @property
    def ceilings(self) -> str:
        """Tell the ceilings and what reached them."""
        each = (
            f"{name} {1e-9 * flops:,.0f} GFLOP/s ({self.ceiling_by[name]})"
            for name, flops in self.ceiling.items()
        )
        return "ceiling: " + ", ".join(each)

    def share(self, flops: float, seconds: float, precision: str) -> str:
        """Say which part of the ceiling of that precision was reached."""
        return f"{flops / seconds / self.ceiling[precision]:.0%} of {precision} ceiling"
