"""Measure how well a score tells photos of known classes from others.

    python -m benchmarks.belonging SETS [--sizes 5 20 all] [--seeds 5]
    python -m benchmarks.belonging SETS --fit [--seeds 2]

SETS is what `python -m benchmarks.datasets` has made; the network is EfficientNet-Lite0. A split is
a set of which a quarter of the classes is left out (near), or two sets of which one is unknown
(far). Scores are learnt from the training photos of the known classes; known test photos and
unknown ones are told apart. Printed are the area under the ROC curve, the share of unknown photos
that pass where 95 % of the known test photos do (FPR), means with standard errors over seeds, and
the share of known test photos that reaches our threshold, which held-out training photos place.
The splits of DEVELOPMENT chose the score, those of REPORT did not. `--fit` trains by the whole
recipe instead, which may alter the trunk, and asks `predict`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pyflux_transfer as pft
from benchmarks.quality import recipes, splits
from pyflux_transfer.data.dataset import Dataset, Sample
from pyflux_transfer.data.folds import folds
from pyflux_transfer.insight import belonging
from pyflux_transfer.predict import Prediction, softmax
from pyflux_transfer.training.design import reduce
from pyflux_transfer.training.logistic import Problem, solve
from pyflux_transfer.training.temperature import calibrate
from pyflux_transfer.training.validation import cross_validate

Rows = NDArray[np.floating]
Labels = NDArray[np.int64]

# (known, unknown): None leaves out classes of the known.
DEVELOPMENT = [
    ("chess", None), ("icons", None), ("flags", None), ("clipart", None), ("units", None),
    ("letters", None), ("digits", None), ("chess", "units"), ("icons", "emoji"),
    ("clipart", "icons"), ("units", "chess"), ("letters", "digits"), ("digits", "letters"),
]  # fmt: skip
REPORT = [
    ("photos", None), ("textures", None), ("sky", None), ("signs", None), ("furniture", None),
    ("silhouettes", None), ("mnist", None), ("emoji", None), ("photos", "textures"),
    ("textures", "photos"), ("sky", "textures"), ("signs", "photos"), ("furniture", "photos"),
    ("silhouettes", "photos"), ("mnist", "letters"), ("emoji", "clipart"),
]  # fmt: skip
LEFT_OUT = 1 / 4  # of the classes
MOST_LEARNT, MOST_UNKNOWN = 1000, 800


@dataclass(frozen=True)
class Case:
    """What scores may learn from, and the known and unknown photos they judge."""

    rows: Rows  # (N, D) float32
    labels: Labels  # (N,)
    folds: Labels  # (N,)
    held_out: Rows  # (N, C) logits of heads that have not seen the photo
    asked: tuple[Rows, Rows]  # (M, D) known and unknown
    logits: tuple[Rows, Rows]
    temperature: float


def case(sets: dict[str, tuple[Rows, Labels, list[Path]]], known: str, unknown: str | None,
         size: int | None, seed: int) -> Case:  # fmt: skip
    """Draw one case; a class needs two photos to be learnt."""
    rows, labels, paths = sets[known]
    rng, classes = np.random.default_rng(seed), int(labels.max()) + 1
    kept = np.ones(classes, bool)
    if unknown is None:
        kept[rng.permutation(classes)[: max(round(LEFT_OUT * classes), 1)]] = False
    test = np.array([splits.held_back(path) for path in paths])
    drawn = rng.permutation(np.flatnonzero(kept[labels] & ~test))
    chosen = [drawn[labels[drawn] == k][:size] for k in np.flatnonzero(kept)]
    learnt = np.concatenate([some for some in chosen if len(some) > 1])
    learnt = rng.permutation(learnt)[:MOST_LEARNT]
    names, y = np.unique(labels[learnt], return_inverse=True)
    others = rows[~kept[labels] & test] if unknown is None else sets[unknown][0]
    others = others[rng.permutation(len(others))[:MOST_UNKNOWN]]
    mine = rows[test & np.isin(labels, names)]

    x, y = rows[learnt], y.astype(np.int64)
    judges = folded([paths[i] for i in learnt], y)
    design, count = reduce(x), len(names)
    judged = cross_validate(design, y, count, judges)
    head = solve(Problem.of(design, y, count), judged.best.decay, judged.start)
    asked = (mine, others)
    logits = tuple(some @ head.weight.T.astype(np.float64) + head.bias for some in asked)
    return Case(
        x, y, judges, judged.logits.astype(np.float64), asked, logits,  # type: ignore[arg-type]
        calibrate(judged.logits, y),
    )  # fmt: skip


def folded(paths: Sequence[Path], labels: Labels) -> Labels:
    """Return folds (N,) that share classes evenly and keep groups together, as `fit` does."""
    samples = [
        Sample(path, int(label), str(number), group=splits.group(path))
        for number, (path, label) in enumerate(zip(paths, labels, strict=True))
    ]
    names = [str(label) for label in range(int(labels.max()) + 1)]
    return folds(Dataset(tuple(samples), tuple(names)))


# --- scores: a case, and photos' features and logits, to numbers that are higher for known ones ---

Score = Callable[[Rows, Rows], Rows]


def probability(given: Case) -> Score:
    return lambda _, logits: softmax(logits.astype(np.float32), given.temperature).max(axis=1)


def largest(_: Case) -> Score:
    return lambda _, logits: logits.max(axis=1)


def energy(_: Case) -> Score:
    def score(_: Rows, logits: Rows) -> Rows:
        top = logits.max(axis=1)
        return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))

    return score


def _unit(rows: Rows) -> Rows:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def neighbour(given: Case) -> Score:
    known = _unit(given.rows)
    return lambda rows, _: (_unit(rows) @ known.T).max(axis=1)


def _gaussian(middles: Rows, spread: Rows) -> Callable[[Rows], Rows]:
    """Return squared Mahalanobis distances (N, C), the covariance shrunk by its mean variance."""
    covariance = spread.T @ spread / len(spread)
    covariance += np.eye(len(covariance), dtype=np.float32) * covariance.trace() / len(covariance)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance)).T
    m = middles @ whiten

    def distances(rows: Rows) -> Rows:
        z = rows @ whiten
        return np.asarray((z**2).sum(1)[:, None] - 2 * z @ m.T + (m**2).sum(1))

    return distances


def mahalanobis(given: Case, relative: bool = False) -> Score:
    middles = np.stack([given.rows[given.labels == k].mean(0) for k in np.unique(given.labels)])
    near, mean = _gaussian(middles, given.rows - middles[given.labels]), given.rows.mean(axis=0)
    if not relative:
        return lambda rows, _: -near(rows).min(axis=1)
    whole = _gaussian(mean[None], given.rows - mean)
    return lambda rows, _: whole(rows)[:, 0] - near(rows).min(axis=1)


def cosine(given: Case) -> Score:
    space = belonging.learn(given.rows.astype(np.float32))
    return lambda rows, _: space.score(rows.astype(np.float32)).astype(np.float64)


def vim(given: Case) -> Score:
    """Energy less the residual, scaled to the largest logit: Wang et al. 2022."""
    space = belonging.learn(given.rows.astype(np.float32))

    def residual(rows: Rows) -> Rows:
        z = (rows - space.mean) / space.scale
        inside = np.square(z @ space.directions.T).sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(np.square(z).sum(axis=1) - inside, 0)))

    alpha = given.held_out.max(axis=1).mean() / residual(given.rows).mean()
    sure = energy(given)
    return lambda rows, logits: sure(rows, logits) - alpha * residual(rows)


def ours(given: Case) -> Score:
    """What `predict` shows."""
    found = _learnt(given)
    return lambda rows, logits: found.score(
        rows.astype(np.float32), logits.astype(np.float32)
    ).astype(np.float64)


def before(given: Case) -> Score:
    """What `predict` showed before format 5 of the bundle: the energy, and no end to deviations."""
    space, energies = belonging.learn(given.rows.astype(np.float32)), energy(given)
    apart = belonging.held_out(given.rows.astype(np.float32), given.folds)
    judges = given.folds >= 0
    known = [apart[judges], energies(apart, given.held_out[judges])]
    usual = [(np.median(v), np.median(np.abs(v - np.median(v)))) for v in known]

    def score(rows: Rows, logits: Rows) -> Rows:
        two = (space.score(rows.astype(np.float32)), energies(rows, logits))
        return np.asarray(sum((v - m) / s for v, (m, s) in zip(two, usual, strict=True)))

    return score


def _learnt(given: Case) -> belonging.Belonging:
    rows, judges = given.rows.astype(np.float32), given.folds >= 0
    apart = belonging.held_out(rows, given.folds)[judges]
    logits = given.held_out[judges].astype(np.float32)
    return belonging.Belonging.of(belonging.learn(rows), apart, logits)


SCORES: dict[str, Callable[[Case], Score]] = {
    "probability": probability,
    "largest logit": largest,
    "energy": energy,
    "nearest cosine": neighbour,
    "Mahalanobis": mahalanobis,
    "relative Mahalanobis": lambda given: mahalanobis(given, relative=True),
    "ViM": vim,
    "cosine alone": cosine,
    "cosine and energy": before,
    "ours": ours,
}


# --- what is printed ------------------------------------------------------------------------------


def auroc(known: Rows, unknown: Rows) -> float:
    """Return the chance that a known photo scores higher than an unknown one; ties count half."""
    order = np.sort(unknown)
    below = np.searchsorted(order, known, "left") + np.searchsorted(order, known, "right")
    return float(below.mean() / 2 / len(unknown))


def passing(known: Rows, unknown: Rows) -> float:
    """Return the share of unknown photos that reach what 95 % of the known do."""
    return float((unknown >= np.quantile(known, 0.05)).mean())


def reached(given: Case) -> float:
    """Return the share of known test photos that reach our threshold."""
    scores = ours(given)(given.asked[0], given.logits[0])
    return float(_learnt(given).sure(scores.astype(np.float32)).mean())


def said(values: Sequence[float], digits: int = 3) -> str:
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def named(split: tuple[str, str | None]) -> str:
    return f"{split[0]} without a quarter" if split[1] is None else f"{split[0]} / {split[1]}"


def compare(folder: Path, sizes: Sequence[str], seeds: int) -> None:
    """Print a row a split and size, then the means over the splits."""
    net, sets = pft.load(recipes.ARCHITECTURE, engine="torch"), {}
    for name in sorted({n for split in DEVELOPMENT + REPORT for n in split if n}):
        rows, classes, paths = net.features(folder / name)
        labels = np.unique(classes, return_inverse=True)[1].astype(np.int64)
        sets[name] = (
            rows.reshape(len(rows), -1),
            labels,
            list(map(Path, paths)),
        )
    for size in sizes:
        print(f"\n| {size} a class | kept, % | {' | '.join(SCORES)} |")
        print("|---|---|" + "---|" * len(SCORES))
        for title, group in (("development", DEVELOPMENT), ("report", REPORT)):
            areas: dict[str, list[float]] = {name: [] for name in SCORES}
            passed: dict[str, list[float]] = {name: [] for name in SCORES}
            for split in group:
                found: dict[str, list[tuple[float, float]]] = {name: [] for name in SCORES}
                kept = []
                for seed in range(seeds):
                    given = case(sets, *split, None if size == "all" else int(size), seed)
                    kept.append(100 * reached(given))
                    for name, learn in SCORES.items():
                        score = learn(given)
                        two = [score(x, z) for x, z in zip(given.asked, given.logits, strict=True)]
                        found[name].append((auroc(*two), passing(*two)))
                for name, pairs in found.items():
                    areas[name].append(float(np.mean([area for area, _ in pairs])))
                    passed[name].append(float(np.mean([share for _, share in pairs])))
                cells = " | ".join(said([area for area, _ in pairs]) for pairs in found.values())
                print(f"| {named(split)} | {said(kept, 1)} | {cells} |", flush=True)
            for what, means in (("AUROC", areas), ("FPR", passed)):
                cells = " | ".join(f"**{np.mean(values):.3f}**" for values in means.values())
                print(f"| **mean of {title}, {what}** | | {cells} |", flush=True)


def fitted(folder: Path, seeds: int) -> None:
    """Print what `predict` tells apart after the whole recipe."""
    print(
        "| known / unknown | deeper | kept, % | by probability | by belonging | unknown unsure, % |"
    )
    print("|---|---|---|---|---|---|")
    for known, unknown in [split for split in REPORT if split[1]]:
        for seed in range(seeds):
            with tempfile.TemporaryDirectory(prefix="belonging-") as place:
                train, test = splits.write(folder / known, Path(place), 40, seed)
                model = recipes.headed(train, seed)
                run = model.fit(train, seed=seed, cache=False)
                others = sorted((folder / str(unknown)).rglob("*.*"))[::3][:MOST_UNKNOWN]
                mine, theirs = model.predict(test), model.predict(others)
            by = [auroc(*(np.array([f(p) for p in some]) for some in (mine, theirs)))
                  for f in (_probability, _belonging)]  # fmt: skip
            kept, unsure = (100 * np.mean([bool(p.sure) for p in some]) for some in (mine, theirs))
            deeper = run.estimate.deeper if run.estimate else None
            print(f"| {known} / {unknown} | {deeper or 'no'} | {kept:.1f} | {by[0]:.3f} | "
                  f"{by[1]:.3f} | {100 - unsure:.1f} |", flush=True)  # fmt: skip


def _probability(answer: Prediction) -> float:
    return answer.probability


def _belonging(answer: Prediction) -> float:
    assert answer.belonging is not None
    return answer.belonging


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.belonging", description=__doc__)
    parser.add_argument("sets", type=Path)
    parser.add_argument("--sizes", nargs="*", default=["all", "20", "5"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fit", action="store_true", help="train by the whole recipe")
    given = parser.parse_args()
    if given.fit:
        fitted(given.sets, given.seeds)
    else:
        compare(given.sets, given.sizes, given.seeds)


if __name__ == "__main__":
    main()
