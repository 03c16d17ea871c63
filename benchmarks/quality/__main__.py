"""Measure how good models become: data sets × photos a class × seeds, ours beside peers.

    python -m benchmarks.datasets --cache CACHE SETS
    python -m benchmarks.quality SETS [--recipes ours regression] [--sizes 5 all] [--seeds 5]

prints a row a data set, size and recipe: accuracy, log loss and calibration error, means over the
seeds with the standard error, and the seconds from files to answers. `--fastai PYTHON` names an
interpreter that has fastai, timm and the weights package.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality import recipes, splits
from pyflux_transfer import Evaluation
from pyflux_transfer.insight.metrics import evaluate

RECIPES: dict[str, Callable[[Path, Path, int], recipes.Probabilities]] = {
    "ours": recipes.ours,
    "head": recipes.head,
    "regression": recipes.regression,
    "tutorial": recipes.tutorial,
    "keras": recipes.keras,
}
HEADER = ("| data | photos a class | recipe | accuracy | log loss | ECE | seconds |\n"
          "|---|---|---|---|---|---|---|")  # fmt: skip


def measured(
    recipe: Callable[[Path, Path, int], recipes.Probabilities], train: Path, test: Path, seed: int
) -> tuple[Evaluation, float]:
    """Return the scores on the test photos, and the seconds."""
    begun = time.perf_counter()
    found = recipe(train, test, seed)
    seconds = time.perf_counter() - begun
    classes = sorted(place.name for place in train.iterdir())
    labels = [classes.index(path.parent.name) for path in sorted(test.rglob("*.*"))]
    return evaluate(found, np.array(labels, np.int64), classes), seconds


def row(name: str, size: str, recipe: str, runs: Sequence[tuple[Evaluation, float]]) -> str:
    """Return a table's row: means over the runs, with the standard error."""

    def cell(values: Sequence[float], digits: int) -> str:
        error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"

    cells = (
        cell([100 * found.accuracy for found, _ in runs], 1),
        cell([found.log_loss for found, _ in runs], 3),
        cell([found.ece for found, _ in runs], 3),
        f"{np.median([seconds for _, seconds in runs]):.1f}",
    )
    return f"| {name} | {size} | {recipe} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table, a row as soon as its runs are done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("sets", type=Path, help="a folder of data sets, a folder of classes each")
    parser.add_argument("--names", nargs="*", help="some of the data sets")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--sizes", nargs="*", default=["5", "10", "20", "all"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fastai", type=Path, help="an interpreter with fastai: adds its recipe")
    given = parser.parse_args()
    chosen = {name: RECIPES[name] for name in given.recipes}
    if given.fastai:
        chosen["fastai"] = recipes.fastai(given.fastai)
    print(HEADER, flush=True)
    for name in given.names or sorted(place.name for place in given.sets.iterdir()):
        for size in given.sizes:
            runs: dict[str, list[tuple[Evaluation, float]]] = {key: [] for key in chosen}
            for seed in range(given.seeds):
                with tempfile.TemporaryDirectory(prefix="quality-") as folder:
                    count = None if size == "all" else int(size)
                    train, test = splits.write(given.sets / name, Path(folder), count, seed)
                    for key, recipe in chosen.items():
                        runs[key].append(measured(recipe, train, test, seed))
            for key, found in runs.items():
                print(row(name, size, key, found), flush=True)


if __name__ == "__main__":
    main()
