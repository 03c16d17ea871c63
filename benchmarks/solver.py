"""The path of solved heads beside scikit-learn's LogisticRegressionCV, in one process.

    python -m benchmarks.solver [--photos 1000] [--features FILE.npz] [--rounds 3] [--large]

Eight strengths, five folds, and the final head, on features of scikit-learn's digits by
EfficientNet-Lite0, or on x (N, D) float32 and y (N,) of a file. Both minimise the same losses on
the same standardised features with the same folds and choose by the same log loss; the peer's
tolerance is the coarsest power of ten at which its log losses are ours to 1e-3. "As it comes" is
the peer as one writes it down: StandardScaler, its own eight strengths and tolerance. `--large`:
100,000 made-up rows of 2,048 in 100 classes, ours alone, with its peak memory.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyflux_transfer.engines.base import Labels
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.design import Standard, reduce
from pyflux_transfer.training.logistic import Problem, solve
from pyflux_transfer.training.rows import Rows
from pyflux_transfer.training.validation import Validation, cross_validate, grid

FOLDS = 5
TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
CLOSE = 1e-3


def digits() -> tuple[Array, Labels]:
    """Return features (1797, 1280) of all digits and their labels."""
    from sklearn.datasets import load_digits

    from pyflux_transfer import load
    from pyflux_transfer.data.write import write_png

    names = [str(digit) for digit in range(10)]
    with tempfile.TemporaryDirectory(prefix="pyflux-bench-") as folder:
        data = load_digits()
        for index, (image, digit) in enumerate(zip(data.images, data.target, strict=True)):
            framed = np.pad(255 - image * 15.9, 2, constant_values=255).astype(np.uint8)
            write_png(Path(folder) / str(digit) / f"{index:04}.png", framed, (96, 96))
        net = load("efficientnet_lite0", engine="torch").with_head(names)
        x, labels, _ = net.features(folder, cache=False)
    return x.reshape(len(x), -1), np.array([int(label) for label in labels])


def made(count: int, width: int, classes: int) -> tuple[Array, Labels]:
    """Return rows like a trunk's: correlated, none negative, classes that overlap."""
    rng, inner = np.random.default_rng(0), 128
    mix = rng.normal(size=(inner, width)) * np.arange(1, inner + 1)[:, None] ** -0.5
    centres, y = rng.normal(0, 0.35, (classes, inner)), rng.integers(classes, size=count)
    x = np.empty((count, width), np.float32)
    for at in range(0, count, 5000):
        some = y[at : at + 5000]
        hidden = centres[some] + rng.normal(size=(len(some), inner))
        noise = rng.normal(0, 0.5, (len(some), width))
        x[at : at + 5000] = np.maximum(hidden @ mix / 2 + noise, 0)
    return x, y


def ours(x: Array, y: Labels, classes: int, folds: Labels) -> Validation:
    reduced = reduce(x)
    found = cross_validate(reduced, y, classes, folds, grid(len(y)))
    solve(Problem.of(reduced, y, classes), found.best.decay, found.start)
    return found


def peers(z: Array, y: Labels, folds: Labels, solver: str, tolerance: float) -> Array:
    """Return scikit-learn's log losses from strong to weak, its final head solved, too."""
    learnt = len(y) * (FOLDS - 1) / FOLDS
    strengths = [1 / (learnt * decay) for decay in grid(len(y))]
    return fitted(z, y, folds, solver=solver, Cs=strengths, tol=tolerance)


def agreeing(
    z: Array, y: Labels, folds: Labels, solver: str, losses: Array
) -> tuple[float, Array, float]:
    """Return its coarsest tolerance at which log losses are ours to 1e-3, them, and how far off."""
    for tolerance in TOLERANCES:
        theirs = peers(z, y, folds, solver, tolerance)
        off = float(np.abs(theirs - losses).max())
        if off < CLOSE:
            break
    return tolerance, theirs, off


def plain(x: Array, y: Labels, folds: Labels) -> Array:
    """Return its log losses as it comes."""
    from sklearn.preprocessing import StandardScaler

    return fitted(StandardScaler().fit_transform(x), y, folds, Cs=len(grid(len(y))))


def fitted(z: Array, y: Labels, folds: Labels, **given: Any) -> Array:
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import PredefinedSplit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what will be named otherwise some day
        found = LogisticRegressionCV(
            cv=PredefinedSplit(folds), scoring="neg_log_loss", n_jobs=2, max_iter=100_000,
            use_legacy_attributes=False, **given,
        ).fit(z, y)  # fmt: skip
    return -np.asarray(found.scores_).reshape(FOLDS, -1).mean(axis=0)


def turns(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the shortest time of each; they take turns, so other programs disturb all alike."""
    times = dict.fromkeys(works, math.inf)
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def compare(x: Array, y: Labels, rounds: int) -> None:
    classes, folds = int(y.max()) + 1, np.empty(len(y), np.int64)
    folds[np.argsort(y, kind="stable")] = np.arange(len(y)) % FOLDS
    own = partial(ours, x, y, classes, folds)
    found = own()
    losses = np.array([strength.loss for strength in found.tried])
    works: dict[str, Callable[[], Any]] = {"ours": own, "as it comes": partial(plain, x, y, folds)}
    remarks = {
        "ours": f"log loss {found.best.loss:.5f}",
        "as it comes": f"log loss {plain(x, y, folds).min():.5f}",
    }
    for solver, dtype in itertools.product(("lbfgs", "newton-cg"), (np.float32, np.float64)):
        z = Standard.of(Rows.of(x)).apply(x).astype(dtype)
        tolerance, theirs, off = agreeing(z, y, folds, solver, losses)
        name = f"{solver}, {np.dtype(dtype).name}, tol {tolerance:.0e}"
        works[name] = partial(peers, z, y, folds, solver, tolerance)
        remarks[name] = f"log loss {theirs.min():.5f}, of all strengths {off:.5f} off at most"
    times = turns(works, rounds)
    print(f"{len(x)} rows of {x.shape[1]}, {classes} classes, the shortest of {rounds} rounds")
    for name, seconds in times.items():
        ratio = seconds / times["ours"]
        print(f"{name:<32}{seconds:7.2f} s {ratio:6.1f} times ours   {remarks[name]}")


def large() -> None:
    """Time the path with a tenth held out, five folds at its best, and the final head."""
    x, y = made(100_000, 2048, 100)
    start = time.perf_counter()

    def tell(what: str) -> None:
        status = Path("/proc/self/status").read_text()
        peak = re.search(r"VmHWM:\s*(\d+) kB", status)
        assert peak
        print(
            f"{what:<40}{time.perf_counter() - start:8.1f} s in all   "
            f"peak {int(peak[1]) / 1024:.0f} MiB, features {x.nbytes / 2**20:.0f}",
            flush=True,
        )

    tell("features made")
    reduced = reduce(x)
    tell("reduced")
    rows = np.arange(len(y))
    found = cross_validate(reduced, y, 100, np.where(rows % 10 == 0, 0, -1))
    for strength in found.tried:
        print(f"  decay {strength.decay:.1e}: log loss {strength.loss:.4f}")
    tell(f"{len(found.tried)} strengths, a tenth held out")
    solve(Problem.of(reduced, y, 100), found.best.decay, found.start)
    tell("final head")
    cross_validate(reduced, y, 100, rows % FOLDS, [found.best.decay])
    tell("five folds at the best strength")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solver", description=__doc__)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--features", type=Path, help="an .npz of x and y")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    if options.large:
        large()
        return
    if options.features:
        with np.load(options.features) as held:
            x, y = held["x"], held["y"]
    else:
        x, y = digits()
    some = np.random.default_rng(0).permutation(len(x))[: options.photos]
    compare(x[some], y[some], options.rounds)


if __name__ == "__main__":
    main()
