"""Measure what `check` and `next` find, on data sets with injected faults.

    python -m benchmarks.insight labels SETS --names photos signs [--seeds 5] [--cleanlab PYTHON]
    python -m benchmarks.insight copies SETS --names photos sky [--seeds 3]
    python -m benchmarks.insight outliers SETS --names chess units [--seeds 3]
    python -m benchmarks.insight next SETS --names photos signs [--seeds 5]
    python -m benchmarks.insight time SETS --names signs emoji [--photos 5000]

SETS is what `python -m benchmarks.datasets` has made; the network is EfficientNet-Lite0. `labels`:
5 % of the labels exchanged, average precision of the ranking, beside cleanlab's on the same
probabilities. `copies`: altered copies of 5 % of the photos; found are those in one set with their
original, false are pairs of different originals that are not found in the set as it was.
`outliers`: 5 % photos of the next set named, under any label; average precision of three rankings,
and what is listed. `next`:
labels in rounds, ours beside random, until as accurate. `time`: `check` beside a scan and one
trunk pass, both with nothing kept from before.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import pyflux_transfer as pft
from benchmarks.clocks import clocked
from benchmarks.insight import faults
from pyflux_transfer.classifier import Classifier
from pyflux_transfer.data.decode import decode_picture
from pyflux_transfer.data.portrait import portray
from pyflux_transfer.data.preprocess import prepare
from pyflux_transfer.engines.base import Labels
from pyflux_transfer.insight.belonging import SIGNS, Belonging, held_out, joined, learn
from pyflux_transfer.insight.copies import alike, groups, nearest, unit
from pyflux_transfer.insight.labels import ASKED, agreed, doubt, votes
from pyflux_transfer.insight.outliers import distances
from pyflux_transfer.insight.selection import select
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.predict import softmax
from pyflux_transfer.training.design import reduce
from pyflux_transfer.training.logistic import Problem, solve
from pyflux_transfer.training.temperature import calibrate
from pyflux_transfer.training.validation import STRONGEST, cross_validate

SHARE = 0.05
LEAST_COPIES = 30
ROUNDS, ROUND_SHARE, LEAST_ROUND, FIRST = 12, 0.04, 10, 2


def network() -> Classifier:
    return pft.load("efficientnet_lite0", engine="torch")


def featured(net: Classifier, folder: Path) -> tuple[Array, Labels, list[str]]:
    """Return features (N, D), labels (N,) and paths of a data set."""
    rows, names, paths = net.features(folder)
    _, labels = np.unique(names, return_inverse=True)
    return rows.reshape(len(rows), -1), labels.astype(np.int64), paths


def folded(labels: Labels, count: int, rng: np.random.Generator) -> Labels:
    """Return stratified folds (N,)."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % count
    return folds


def said(values: Sequence[float], digits: int = 3) -> str:
    """Return a mean with its standard error."""
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


# --- labels ---------------------------------------------------------------------------------------


def labels(net: Classifier, folder: Path, seeds: int, cleanlab: Path | None) -> None:
    from sklearn.metrics import average_precision_score as precision

    rows, true, _ = featured(net, folder)
    design, classes, units = reduce(rows), int(true.max()) + 1, unit(rows)
    near = nearest(units, units, ASKED)
    found: dict[str, list[float]] = {}
    accuracy, listed, right = [], [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        given = faults.exchanged(true, SHARE, rng)
        wrong = given != true
        judged = cross_validate(design, given, classes, folded(given, 5, rng))
        probabilities = softmax(judged.logits, calibrate(judged.logits, given))
        voted = votes(given, classes, near, np.arange(len(given)))
        doubts = doubt(agreed(probabilities, voted), given)
        found.setdefault("ours", []).append(precision(wrong, doubts.score))
        alone = doubt(probabilities, given).score
        found.setdefault("without the nearest", []).append(precision(wrong, alone))
        for name, score in peer(cleanlab, probabilities, given).items():
            found.setdefault(name, []).append(precision(wrong, -score))
        accuracy.append(100 * float((probabilities.argmax(axis=1) == true).mean()))
        listed.append(float(doubts.wrong.sum()))
        right.append(100 * float(wrong[doubts.wrong].sum() / wrong.sum()))
    cells = " | ".join(said(values) for values in found.values())
    print(f"| data | photos | accuracy, % | {' | '.join(found)} | listed | of the wrong, % |")
    print(f"| {folder.name} | {len(true)} | {said(accuracy, 1)} | {cells} | {said(listed, 0)} | "
          f"{said(right, 0)} |", flush=True)  # fmt: skip


def peer(python: Path | None, probabilities: Array, given: Labels) -> dict[str, Array]:
    """Return cleanlab's scores, none without an interpreter that has it."""
    if python is None:
        return {}
    with tempfile.TemporaryDirectory(prefix="insight-") as folder:
        asked, answer = Path(folder, "asked.npz"), Path(folder, "answer.npz")
        np.savez(asked, probabilities=probabilities, labels=given)
        script = Path(__file__).with_name("cleanlab_side.py")
        subprocess.run([python, script, asked, answer], check=True)
        with np.load(answer) as held:
            return {f"cleanlab {name}": held[name] for name in held.files}


# --- copies ---------------------------------------------------------------------------------------


def copies(net: Classifier, folder: Path, seeds: int) -> None:
    rows, _, paths = featured(net, folder)
    small = np.stack([look(Path(path).read_bytes()) for path in paths])
    before = alike(rows, small, paths, paths)
    natural = {tuple(pair) for pair in before.copies.photos.tolist()}
    shares, wrong, lost = [], [], Counter[str]()
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        originals = rng.permutation(len(rows))[: max(round(SHARE * len(rows)), LEAST_COPIES)]
        kinds = [list(faults.ALTERATIONS)[i % 6] for i in range(len(originals))]
        altered = [
            faults.ALTERATIONS[kind](Image.open(paths[i]).convert("RGB"), rng)
            for i, kind in zip(originals, kinds, strict=True)
        ]
        more, looks = passed(net, altered)
        names = [*paths, *(f"{i}" for i in range(len(altered)))]
        pairs = alike(np.concatenate([rows, more]), np.concatenate([small, looks]), names, names)
        source = np.concatenate([np.arange(len(rows)), originals])
        together = groups(len(names), pairs.copies.photos)
        of = {photo: number for number, photos in enumerate(together) for photo in photos}
        hits = [
            of.get(len(rows) + j, -1) == of.get(int(i), -2) for j, i in enumerate(originals)
        ]  # fmt: skip
        lost.update(kind for kind, hit in zip(kinds, hits, strict=True) if not hit)
        ends = [tuple(sorted(pair)) for pair in source[pairs.copies.photos].tolist()]
        false = sum(a != b and (a, b) not in natural for a, b in ends)
        shares.append(100 * float(np.mean(hits)))
        wrong.append(100 * false / max(len(ends), 1))
    missed = ", ".join(f"{kind} {count}" for kind, count in lost.items())
    print("| data | photos | pairs in it before | found, % | false pairs, % | missed |")
    print(f"| {folder.name} | {len(rows)} | {len(natural)} | {said(shares, 1)} | "
          f"{said(wrong, 1)} | {missed} |", flush=True)  # fmt: skip


def look(data: bytes) -> Array:
    return portray(data, decode_picture(data, shorter_side=256)).small


def passed(net: Classifier, images: Sequence[Image.Image]) -> tuple[Array, Array]:
    """Return features and small pictures of images, as if they had been files."""
    inputs = np.stack([prepare(np.asarray(image), net.preprocessing) for image in images])
    rows = [net.network.embed(inputs[i : i + 16]) for i in range(0, len(inputs), 16)]
    side = 48
    small = [np.asarray(x.resize((side, side), Image.Resampling.BILINEAR)) for x in images]
    return np.concatenate(rows).reshape(len(images), -1), np.stack(small)


# --- outliers -------------------------------------------------------------------------------------


def strangers(net: Classifier, folder: Path, others: Path, seeds: int) -> None:
    from sklearn.metrics import average_precision_score as precision

    rows, labels, _ = featured(net, folder)
    pool, _, _ = featured(net, others)
    classes, found, listed = int(labels.max()) + 1, dict[str, list[float]](), list[list[float]]()
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        strange = pool[rng.permutation(len(pool))[: max(round(SHARE * len(rows)), 10)]]
        x = np.concatenate([rows, strange])
        wrong = np.arange(len(x)) >= len(rows)
        given = np.concatenate([labels, rng.integers(classes, size=len(strange))])
        folds = folded(given, 5, rng)
        logits = cross_validate(reduce(x), given, classes, folds).logits
        cosines, far = held_out(x, folds), distances(unit(x), given)
        known = Belonging.of(learn(x), cosines, logits)
        scores = {
            "far from its class, as listed": far.own, "far from all": far.all,
            "belonging": -joined(cosines, logits, known.usual, SIGNS["odds"]),
        }  # fmt: skip
        for name, score in scores.items():
            found.setdefault(name, []).append(precision(wrong, score))
        out = np.isin(np.arange(len(x)), far.outliers)
        listed.append([float(out.sum()), 100 * float(wrong[out].sum() / wrong.sum())])
    cells = " | ".join(said(values) for values in found.values())
    two = [said([row[k] for row in listed], 0) for k in (0, 1)]
    print(f"| data, others | photos | {' | '.join(found)} | listed | of the others, % |")
    print(f"| {folder.name}, {others.name} | {len(rows)} | {cells} | {two[0]} | {two[1]} |",
          flush=True)  # fmt: skip


# --- what to label next ---------------------------------------------------------------------------


def following(net: Classifier, folder: Path, seeds: int) -> None:
    rows, labels, _ = featured(net, folder)
    units, classes = unit(rows), int(labels.max()) + 1
    shares, curves = [], []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(rows))
        test, pool = np.split(order, [2 * len(rows) // 5])
        start = np.concatenate([pool[labels[pool] == c][:FIRST] for c in range(classes)])
        step = max(LEAST_ROUND, round(ROUND_SHARE * len(pool)))
        ways = [
            curve(rows, units, labels, classes, test, pool, start, step, seed, ours)
            for ours in (False, True)
        ]
        goal = ways[0][-1]
        needed = next((k for k, value in enumerate(ways[1]) if value >= goal), ROUNDS)
        last = len(start) + ROUNDS * step
        shares.append(100 * (len(start) + needed * step) / last)
        curves.append([100 * ways[0][-1], 100 * ways[1][-1]])
    at_end = [said([curve[k] for curve in curves], 1) for k in (0, 1)]
    print("| data | labels at the end | random, % | ours, % | labels ours needs, % |")
    print(f"| {folder.name} | {last} | {at_end[0]} | {at_end[1]} | {said(shares, 0)} |",
          flush=True)  # fmt: skip


def curve(
    rows: Array, units: Array, labels: Labels, classes: int, test: Labels, pool: Labels,
    start: Labels, step: int, seed: int, ours: bool,
) -> list[float]:  # fmt: skip
    """Return the accuracy on the test photos after each round of labels."""
    rng, known, scores = np.random.default_rng(seed), start, []
    for number in range(ROUNDS + 1):
        weight, bias, temperature = fitted(rows[known], labels[known], classes, seed)
        scores.append(float(((rows[test] @ weight.T + bias).argmax(1) == labels[test]).mean()))
        rest = np.setdiff1d(pool, known)
        if number == ROUNDS:
            break
        if ours:
            said = softmax(rows[rest] @ weight.T + bias, temperature)
            chosen = select(said, units[rest], units[known], step)
        else:
            chosen = rng.permutation(len(rest))[:step]
        known = np.concatenate([known, rest[chosen]])
    return scores


def fitted(rows: Array, labels: Labels, classes: int, seed: int) -> tuple[Array, Array, float]:
    """Return a solved head and its temperature."""
    design = reduce(rows)
    counts = np.bincount(labels, minlength=classes)
    count = int(min(5, max(2, counts[counts > 0].min())))
    folds = folded(labels, count, np.random.default_rng(seed))
    folds[counts[labels] < 2] = -1
    judged = cross_validate(design, labels, classes, folds)
    held = judged.held_out
    decay = judged.best.decay if held.any() else STRONGEST / len(labels)
    head = solve(Problem.of(design, labels, classes), decay, judged.start)
    return head.weight, head.bias, calibrate(judged.logits[held], labels[held])


# --- time -----------------------------------------------------------------------------------------


def timed(net: Classifier, folders: Sequence[Path], photos: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="insight-") as place:
        for folder in folders:
            for label in sorted(path for path in folder.iterdir() if path.is_dir()):
                target = Path(place, f"{folder.name} {label.name}")
                target.mkdir()
                for path in sorted(label.iterdir()):
                    if photos:
                        (target / path.name).symlink_to(path.absolute())
                        photos -= 1
                if not any(target.iterdir()):
                    target.rmdir()
        count = sum(1 for path in Path(place).rglob("*.*"))
        works = {
            "scan and trunk": lambda: net.features(place, cache=False),
            "check": lambda: pft.check(place, "efficientnet_lite0", engine="torch", cache=False),
        }
        net.network.embed(np.zeros((16, 3, 224, 224), np.float32))  # the first pass prepares it
        for _ in range(rounds):
            clocks = {name: clocked(work) for name, work in works.items()}
            (alone, _), (whole, _) = clocks.values()
            told = ", ".join(f"{k} {cpu:.1f} s ({wall:.1f} s)" for k, (cpu, wall) in clocks.items())
            print(f"{count} photos, seconds of processors (of the wall): {told}; "
                  f"{whole / alone:.2f} times", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.insight", description=__doc__)
    parser.add_argument("what", choices=["labels", "copies", "outliers", "next", "time"])
    parser.add_argument("sets", type=Path)
    parser.add_argument("--names", nargs="*", help="some of the data sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cleanlab", type=Path, help="an interpreter that has cleanlab")
    parser.add_argument("--photos", type=int, default=5000)
    given = parser.parse_args()
    names = given.names or sorted(place.name for place in given.sets.iterdir())
    folders, net = [given.sets / name for name in names], network()
    if given.what == "time":
        timed(net, folders, given.photos, given.seeds)
        return
    for place, folder in enumerate(folders):
        if given.what == "outliers":
            strangers(net, folder, folders[(place + 1) % len(folders)], given.seeds)
        elif given.what == "labels":
            labels(net, folder, given.seeds, given.cleanlab)
        elif given.what == "copies":
            copies(net, folder, given.seeds)
        else:
            following(net, folder, given.seeds)


if __name__ == "__main__":
    main()
