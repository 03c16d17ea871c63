"""Runs that the tests of trackers log: by the recipe, and by steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyflux_transfer as pft
from pyflux_transfer.training.train import Run
from tests import photos

CLASSES = ["blue", "green", "red"]


def run(folder: Path, log: Any, **options: Any) -> Run:
    """Train the NumPy engine's network on small photos."""
    data = folder / "photos"
    if not data.exists():
        photos.write(data, dict.fromkeys(CLASSES, 6))
    model = pft.load("tiny", engine="fake").with_head(CLASSES)
    return model.fit(data, log=log, **options)
