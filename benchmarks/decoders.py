"""Decode and prepare a folder's photos: ours in threads, and plainly with Pillow in one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import measure
from benchmarks.tutorial_transforms import center_crop
from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.preprocess import load, normalise
from pyflux_transfer.installation.environment import cores
from pyflux_transfer.networks.preprocessing import Preprocessing

AS_TRAINED = Preprocessing()
_LEVELS = 255 * np.array(AS_TRAINED.std, np.float32)[:, None, None]


def plain(path: Path) -> np.ndarray:
    """Decode the whole photo, resize all of it, cut, normalise."""
    with Image.open(path) as photo:
        return normalise(np.asarray(center_crop(photo.convert("RGB"))), AS_TRAINED)


def main(folder: str) -> None:
    """Time both, taking turns, and compare the results."""
    paths = sorted(Path(folder).rglob("*.jpg"))
    ours = partial(load, preprocessing=AS_TRAINED)
    workers = cores()
    ahead = partial(map_ahead, ours, workers=workers, ahead=4 * workers)
    times = {"ours": [], "pillow": []}
    for _ in range(2):
        times["ours"].append(_seconds(ahead, paths))
        times["pillow"].append(_seconds(partial(map, plain), paths))
    difference = np.stack([abs(ours(path) - plain(path)) * _LEVELS for path in paths[:60]])
    measure.finish(
        **{name: min(values) / len(paths) for name, values in times.items()},
        mean=float(difference.mean()),
        most=float(np.quantile(difference, 0.999)),
        largest=float(difference.max()),
    )


def _seconds(run: Callable[[list[Path]], Iterable[object]], paths: list[Path]) -> float:
    start = time.perf_counter()
    for _ in run(paths):
        pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main(**measure.arguments())
