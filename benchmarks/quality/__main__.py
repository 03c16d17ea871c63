"""Measure how good models become: data sets × photos a class × seeds, ours beside peers.

    python -m benchmarks.datasets --cache CACHE SETS
    python -m benchmarks.quality SETS [--recipes ours regression] [--sizes 5 all] [--seeds 5]

prints a table each of accuracy, log loss and calibration error, means over the seeds with the
standard error, and of the seconds from files to answers. `by chance` is the calibration error that
these probabilities would have on so many photos were they exactly right. `--fastai
PYTHON` names an interpreter that has fastai, timm and the weights package, `--autogluon PYTHON` one
that has AutoGluon's multimodal part and them. A whole table takes hours: `--out FILE` keeps each
run as it ends, so the same command goes on where it was stopped; `--table` prints what a file has
and runs nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality import kept, recipes, splits
from benchmarks.quality.kept import Measured, Place
from pyflux_transfer.insight.metrics import calibration_chance, evaluate

Recipe = Callable[[Path, Path, int], recipes.Probabilities]
RECIPES: dict[str, Recipe] = {
    "ours": recipes.ours,
    "head": recipes.head,
    "regression": recipes.regression,
    "tutorial": recipes.tutorial,
    "keras": recipes.keras,
}
PEERS = {"fastai": "with_fastai.py", "autogluon": "with_autogluon.py"}  # each in its environment


def measured(recipe: Recipe, train: Path, test: Path, seed: int) -> Measured:
    """Return the scores on the test photos, and the seconds."""
    begun = time.perf_counter()
    found = recipe(train, test, seed)
    seconds = time.perf_counter() - begun
    classes = sorted(place.name for place in train.iterdir())
    labels = [classes.index(path.parent.name) for path in sorted(test.rglob("*.*"))]
    scores = evaluate(found, np.array(labels, np.int64), classes)
    chance = calibration_chance(found)
    return Measured(scores.accuracy, scores.log_loss, scores.ece, chance, seconds)


def runs(
    sets: Path, names: Sequence[str], sizes: Sequence[str], seeds: int, chosen: dict[str, Recipe],
    known: dict[Place, Measured],
) -> Iterator[tuple[Place, Measured]]:  # fmt: skip
    """Run what is not known yet: every set and size with one seed, then with the next."""
    for seed in range(seeds):
        for size in sizes:
            for name in names:
                places = {key: Place(name, size, key, seed) for key in chosen}
                missing = {key: place for key, place in places.items() if place not in known}
                if not missing:
                    continue
                with tempfile.TemporaryDirectory(prefix="quality-") as folder:
                    count = None if size == "all" else int(size)
                    train, test = splits.write(sets / name, Path(folder), count, seed)
                    for key, place in missing.items():
                        print(*vars(place).values(), file=sys.stderr, flush=True)
                        yield place, measured(chosen[key], train, test, seed)


def main() -> None:
    """Measure what is asked for, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("sets", type=Path, help="a folder of data sets, a folder of classes each")
    parser.add_argument("--names", nargs="*", help="some of the data sets")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--sizes", nargs="*", default=["5", "10", "20", "all"])
    parser.add_argument("--seeds", type=int, default=5)
    for peer in PEERS:
        parser.add_argument(f"--{peer}", type=Path, help="an interpreter that has it: adds it")
    parser.add_argument("--out", type=Path, help="a .jsonl file of single runs to go on with")
    parser.add_argument("--table", action="store_true", help="print what --out has, run nothing")
    given = parser.parse_args()
    chosen = {name: RECIPES[name] for name in given.recipes}
    for peer, script in PEERS.items():
        if python := getattr(given, peer):
            chosen[peer] = recipes.elsewhere(python, script)
    names = given.names or sorted(place.name for place in given.sets.iterdir())
    known = kept.read(given.out)
    if not given.table:
        for place, found in runs(given.sets, names, given.sizes, given.seeds, chosen, known):
            known[place] = found
            kept.add(given.out, place, found)
    print("\n".join(kept.tables(known)))


if __name__ == "__main__":
    main()
