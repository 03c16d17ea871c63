"""Training in bfloat16 beside float32: what the models are worth, draw by draw.

    python -m benchmarks.precisions SETS --names photos digits [--seeds 5]
        [--train 176] [--test 118] [--cut 0] [--epochs 5] [--size 112]

SETS is a folder of `python -m benchmarks.datasets`. A seed draws photos to learn from and others to
judge by; from there both precisions go the same way, EfficientNet-Lite0 with its ImageNet weights
trained from `cut` on, whole by default. Printed are accuracy and log loss in each precision and
their difference, means over the draws with standard errors, and seconds of processors for training.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pyflux_transfer as pft
from benchmarks.table import line
from pyflux_transfer.engines.base import Precision

_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Steps:
    """How to train."""

    cut: int | str
    epochs: int
    size: int


def drawn(photos: Path, train: int, test: int, seed: int, target: Path) -> Path:
    """Link photos of a draw as `target/train/class/…` and `target/test/class/…`."""
    files = sorted(file for file in photos.rglob("*") if file.is_file())
    order = np.random.default_rng(seed).permutation(len(files))
    for split, rows in (("train", order[:train]), ("test", order[train : train + test])):
        for row in rows:
            place = target / split / files[row].parent.name
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{row:05}{files[row].suffix}").symlink_to(files[row].absolute())
    return target


def judged(folder: Path, steps: Steps, seed: int, precision: Precision) -> tuple[float, ...]:
    """Return accuracy, log loss, and seconds of processors for training."""
    classes = sorted(place.name for place in (folder / "train").iterdir())
    net = pft.load("efficientnet_lite0", engine="torch", precision=precision, size=steps.size)
    model, start = net.with_head(classes), time.process_time()
    model.fit(
        folder / "train", valid=None, cut=steps.cut, epochs=steps.epochs, cache=False, seed=seed
    )
    spent = time.process_time() - start
    scores = model.evaluate(folder / "test")
    return scores.accuracy, scores.log_loss, spent


def row(photos: Path, train: int, test: int, seeds: int, steps: Steps) -> tuple[str, ...]:
    """Return the cells of one set of photos."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in _PRECISIONS}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory(prefix="pyflux-bench-") as folder:
            split = drawn(photos, train, test, seed, Path(folder))
            for precision in _PRECISIONS:
                found[precision].append(judged(split, steps, seed, precision))
    exact, half = (np.array(found[name]) for name in _PRECISIONS)
    return (
        photos.name, f"{train}, {test}",
        *(_mean(100 * each[:, 0], 1) for each in (exact, half, half - exact)),
        *(_mean(each[:, 1], 3) for each in (exact, half, half - exact)),
        *(f"{each[:, 2].mean():.1f}" for each in (exact, half)),
    )  # fmt: skip


def _mean(values: np.ndarray, digits: int) -> str:
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{values.mean():.{digits}f} ± {error:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", type=Path)
    parser.add_argument("--names", nargs="+", default=["photos", "digits"])
    for name, default in (("seeds", 5), ("train", 176), ("test", 118), ("epochs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--cut", default="0")
    asked = parser.parse_args()
    cut = int(asked.cut) if asked.cut.isdigit() else asked.cut
    print(line((
        "data", "to learn, to judge", "accuracy fp32, %", "bf16", "difference",
        "log loss fp32", "bf16", "difference", "training fp32, s", "bf16",
    )))  # fmt: skip
    print(line(["---"] * 10), flush=True)
    for name in asked.names:
        steps = Steps(cut, asked.epochs, asked.size)
        print(line(row(asked.sets / name, asked.train, asked.test, asked.seeds, steps)), flush=True)


if __name__ == "__main__":
    main()
