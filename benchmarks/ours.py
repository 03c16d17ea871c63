"""Our side of training: from a folder of photos to a saved model, nothing kept from before."""

from __future__ import annotations

from pathlib import Path

import pyflux_transfer as pft
from benchmarks import measure
from pyflux_transfer.engines.base import Precision


def main(
    folder: str, architecture: str, weights: str | None, cut: str, epochs: int, out: str,
    cache: bool = False, solver: str = "steps", size: int | None = None,
    precision: Precision = "auto",
) -> None:  # fmt: skip
    """Train the last layer (`cut="head"`) or from a stage on; save the best weights."""
    classes = sorted(path.name for path in (Path(folder) / "train").iterdir())
    network = pft.load(
        architecture, weights=weights, engine="torch", size=size, precision=precision
    )
    model = network.with_head(classes)
    run = model.fit(folder, cut=cut, epochs=epochs, cache=cache, solver=solver)
    model.save(out)
    measure.finish(
        accuracy=run.best.valid_accuracy, seconds=run.seconds, precision=model.network.precision
    )


if __name__ == "__main__":
    main(**measure.arguments())
