"""`report`: one page that tells a colleague how good a model is, and where it fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.dataset import CHECKED, Splits, read_sample
from pyflux_transfer.data.decode import MAX_PIXELS, Pixels
from pyflux_transfer.data.listing import Labelled
from pyflux_transfer.data.overlay import data_uri, small_jpeg
from pyflux_transfer.data.preprocess import load_pixels
from pyflux_transfer.errors import InputError, PyFluxTransferError, readable
from pyflux_transfer.explain import explained
from pyflux_transfer.insight.chart import Chart, Line, chart
from pyflux_transfer.insight.metrics import Evaluation, by_threshold, interval, reliability
from pyflux_transfer.insight.page import possible, render
from pyflux_transfer.judgement import Judgement, judge
from pyflux_transfer.model import Model
from pyflux_transfer.networks.outline import outline
from pyflux_transfer.predict import softmax
from pyflux_transfer.storage import check_writable, replacing
from pyflux_transfer.training.callbacks import Silent, Watcher
from pyflux_transfer.training.options import Options

WORST = 24  # photos of each list that come with heat maps
RIGHT, WRONG = 6, 24  # photos of a cell of the confusion matrix, on the diagonal and off it
MANY = 60  # classes beyond which the matrix is told as a list of its largest errors
BUDGET_BYTES = 7_000_000  # of pictures; a page stays below 10 MB
CELL, LARGE = 112, 168  # pixels of the longer side
BATCH = 16


def report(
    model: Model,
    data: Labelled | Splits,
    out: str | Path,
    *,
    batch_size: int = 16,
    max_pixels: int = MAX_PIXELS,
    max_skipped: float = 0.05,
    seen: bool = False,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Write the page about a model's answers to labelled photos, and return the scores.

    `data` is as in `Classifier.evaluate`. `seen` tells that the model may have learnt from these
    photos, which the page then says. Raises InputError for a name that does not end in .html and
    where Jinja2 is missing, StorageError where the page cannot be written.
    """
    target = prepared(out)
    options = Options(batch_size=batch_size, max_pixels=max_pixels, max_skipped=max_skipped)
    watcher = watcher or Silent()
    judged = judge(model, data, options, watcher)
    name = readable(data) if isinstance(data, (str, Path)) else "photos"
    with watcher.bar("pictures", len(judged.samples)) as advance:
        text = page(model, judged, name, seen=seen and judged.split in ("", "training"))
        advance(len(judged.samples))
    with replacing(target) as temporary:
        temporary.write_text(text, "utf-8")
    return judged.evaluation()


def prepared(out: str | Path) -> Path:
    """Refuse a page that could not be made or written, before there is anything to tell."""
    target = Path(out)
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"A report's name must end in .html, got '{out}'.")
    possible()
    check_writable(target)
    return target


def page(model: Model, judged: Judgement, name: str, *, seen: bool = False) -> str:
    """Return the page's HTML; photos that cannot be read any more have no picture."""
    scores, seen = judged.evaluation(), seen or judged.flatters(model.info)
    own = judged.probabilities[np.arange(len(judged.labels)), judged.labels]
    wrong = np.flatnonzero(judged.called != judged.labels)
    worst = wrong[np.argsort(own[wrong], kind="stable")][:WORST]
    margins = np.sort(judged.probabilities, axis=1)
    unsure = np.argsort(margins[:, -1] - margins[:, -2], kind="stable")[:WORST]
    pictures = _Pictures(model, judged)
    large = pictures.large([int(i) for i in dict.fromkeys([*worst, *unsure])])
    cells = _cells(judged)
    small = pictures.small([i for chosen in cells.values() for i in chosen])
    low, high = interval(int((judged.called == judged.labels).sum()), scores.count)
    return render(
        "report.html", title=name, seen=seen, split=judged.split, scores=scores,
        low=100 * low, high=100 * high, architecture=model.plan.architecture.name,
        trained=trained(model.info), costs=_costs(model, judged), charts=_charts(model, judged),
        belonging=judged.belonging,
        rows=sorted(scores.classes, key=lambda row: (row.f1, row.label)),
        matrix=_matrix(scores) if len(scores.classes) <= MANY else None,
        confused=_confused(scores), cells=_pointed(cells, judged, small),
        files={str(i): small[i] for i in small},
        worst=[_card(judged, int(i), large) for i in worst],
        unsure=[_card(judged, int(i), large) for i in unsure],
    )  # fmt: skip


def trained(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Return how a model came to be, as names and values, as far as its bundle tells."""
    training = info.get("training", {})
    rows = [("weights", info.get("weights")), ("made", info.get("created")),
            ("photos", training.get("images"))]  # fmt: skip
    if recipe := training.get("recipe"):
        rows.append(("recipe", "the head is solved to its optimum on all photos"))
        if estimate := recipe.get("estimate"):
            share, error = 100 * estimate["accuracy"], 100 * estimate["accuracy_error"]
            rows.append(("cross-validated accuracy", f"{share:.1f} ± {error:.1f} %"))
            rows.append(("folds", estimate["folds"]))
            rows.append(("trained deeper", estimate["deeper"] or "no"))
        rows.append(("temperature", f"{recipe['temperature']:.3f}"))
    for number, phase in enumerate(training.get("phases", ()), start=1):
        told = f"{phase['epochs']} epochs from unit {phase['cut']} on, rate {phase['lr']:g}"
        rows.append((f"phase {number}", told))
    if seconds := training.get("seconds"):
        told = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        rows.append(("time", f"{sum(seconds.values()):.1f} s: {told}"))
    rows += [("engine", info.get("engine")), ("precision", info.get("precision"))]
    rows += list(info.get("versions", {}).items())
    rows += [
        (name.replace("_", " "), value)
        for name, value in training.get("options", {}).items()
        if name in ("augment", "class_weights", "seed", "optimizer") and value is not None
    ]
    return [(name, str(value)) for name, value in rows if value is not None]


def _costs(model: Model, judged: Judgement) -> list[tuple[str, str]]:
    side = model.preprocessing.crop
    name = model.plan.architecture.name
    whole = outline(name, model.network.units, model.network.cut, (1, 3, side, side), 0)[0]
    rows = [
        ("an image, read and computed", f"{1000 * judged.seconds / len(judged.samples):.1f} ms"),
        ("parameters", f"{whole.parameters:,}"),
        ("as a file", f"{4 * whole.parameters / 1e6:,.1f} MB"),
        ("image size", f"{side} × {side}"),
        ("computed on", model.network.device),
    ]
    if whole.mult_adds:
        rows.insert(1, ("mult-adds an image", f"{whole.mult_adds / 1e9:.2f} · 10⁹"))
    return rows


def _charts(model: Model, judged: Judgement) -> list[Chart]:
    made = []
    history = model.info.get("training", {}).get("history", [])
    if len(history) > 1:
        made += _curves(history)
    before = softmax(judged.logits)
    lines = [("before calibration", before), ("after calibration", judged.probabilities)]
    if judged.temperature == 1:
        lines = [("as trained", before)]
    bins = [(name, reliability(shares, judged.labels)) for name, shares in lines]
    told = "; ".join(
        f"{name}: " + ", ".join(f"{b.accuracy:.0%} right at {b.confidence:.0%}" for b in found)
        for name, found in bins
    )
    curves = [Line("as sure as right", [(0, 0), (1, 1)], ideal=True)]
    curves += [Line(n, [(b.confidence, b.accuracy) for b in found], True) for n, found in bins]
    made.append(chart("Reliability", told, "how sure it was", "share that is right", curves,
                      (0, 1), (0, 1)))  # fmt: skip
    rows = by_threshold(judged.probabilities, judged.labels)
    shown = [row for row in rows if round(row[0], 2) in (0.5, 0.8, 0.9)]
    told = "; ".join(f"at {t:.2f} precision {p:.1%}, recall {r:.1%}" for t, p, r in shown)
    lines_ = [Line("precision", [(t, p) for t, p, _ in rows]),
              Line("recall", [(t, r) for t, _, r in rows])]  # fmt: skip
    made.append(chart("Answers above a threshold only", told, "least probability of an answer",
                      "share", lines_, (0, 1), (0, 1)))  # fmt: skip
    return made


def _curves(history: Sequence[dict[str, Any]]) -> list[Chart]:
    def line(name: str, key: str) -> Line:
        points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
        return Line(name, points, True)

    losses = [line("training", "train_loss"), line("validation", "valid_loss")]
    losses = [one for one in losses if one.points]
    told = ", ".join(f"{one.name} {one.points[-1][1]:.3f} at the end" for one in losses)
    made = [chart("Loss by epoch", told, "epoch", "nats an image", losses)]
    accuracy = line("validation", "valid_accuracy")
    if accuracy.points:
        told = f"{accuracy.points[-1][1]:.1%} at the end"
        made.append(chart("Validation accuracy by epoch", told, "epoch", "share", [accuracy]))
    return made


# --- the confusion matrix -------------------------------------------------------------------------


def _cells(judged: Judgement) -> dict[tuple[int, int], list[int]]:
    """Return the photos that a cell shows: (is, called) → their numbers, the errors first."""
    found: dict[tuple[int, int], list[int]] = {}
    for number, cell in enumerate(zip(judged.labels, judged.called, strict=True)):
        found.setdefault((int(cell[0]), int(cell[1])), []).append(number)
    kept = {cell: some[: RIGHT if cell[0] == cell[1] else WRONG] for cell, some in found.items()}
    return dict(sorted(kept.items(), key=lambda pair: pair[0][0] == pair[0][1]))


def _pointed(
    cells: dict[tuple[int, int], list[int]], judged: Judgement, small: dict[int, str]
) -> dict[str, list[dict[str, Any]]]:
    """Return what the page's script shows of each cell."""
    return {
        f"{a}-{b}": [
            {
                "path": readable(judged.samples[i].path.name),
                "picture": str(i) if i in small else "",
                "sure": f"{100 * float(judged.probabilities[i].max()):.0f} %",
            }
            for i in chosen
        ]
        for (a, b), chosen in cells.items()
    }


def _matrix(scores: Evaluation) -> list[list[dict[str, Any]]]:
    """Return the cells row by row: count, share of the row, and whether it is right."""
    return [
        [
            {"count": n, "share": n / max(sum(row), 1), "right": i == j, "key": f"{i}-{j}"}
            for j, n in enumerate(row)
        ]
        for i, row in enumerate(scores.confusion)
    ]


def _confused(scores: Evaluation) -> list[dict[str, Any]]:
    """Return the largest confusions, the most frequent first."""
    names = [row.label for row in scores.classes]
    pairs = [
        (n, i, j)
        for i, row in enumerate(scores.confusion)
        for j, n in enumerate(row)
        if n and i != j
    ]
    return [
        {"count": n, "label": names[i], "called": names[j], "key": f"{i}-{j}"}
        for n, i, j in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:10]
    ]


def _card(judged: Judgement, i: int, large: dict[int, tuple[str, str]]) -> dict[str, Any]:
    row, label, called = judged.probabilities[i], judged.labels[i], judged.called[i]
    second = int(np.argsort(-row, kind="stable")[1])
    other = int(label) if label != called else second
    photo, heat = large.get(i, ("", ""))
    return {
        "path": readable(judged.samples[i].path),
        "name": readable(judged.samples[i].path.name),
        "label": judged.classes[label], "called": judged.classes[called],
        "sure": f"{100 * float(row[called]):.1f} %",
        "other": judged.classes[other], "less": f"{100 * float(row[other]):.1f} %",
        "right": bool(label == called), "photo": photo, "heat": heat,
    }  # fmt: skip


# --- pictures -------------------------------------------------------------------------------------


@dataclass
class _Pictures:
    """Small pictures of photos as the network saw them, within a budget of bytes."""

    model: Model
    judged: Judgement
    spent: int = 0

    def large(self, chosen: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Return photos and their heat maps for what was answered, as addresses with the data."""
        found = {}
        model = self.model
        seen = list(self._pixels(chosen))
        for start in range(0, len(seen), BATCH):
            part = seen[start : start + BATCH]
            named = [(str(i), pixels) for i, pixels in part]
            try:
                made = explained(model.network, model.classes, model.preprocessing, named)
                overlays = [one.overlay for one in made]
            except InputError:  # a network without a feature map
                overlays = []
            for place, (i, pixels) in enumerate(part):
                heat = self._uri(overlays[place], LARGE) if overlays else ""
                found[i] = (self._uri(pixels, LARGE), heat)
        return found

    def small(self, chosen: Sequence[int]) -> dict[int, str]:
        """Return photos as addresses with the data, as many as the budget allows."""
        found = {}
        for i, pixels in self._pixels(chosen):
            if self.spent > BUDGET_BYTES:
                break
            found[i] = self._uri(pixels, CELL)
        return found

    def _uri(self, pixels: Pixels, side: int) -> str:
        address = data_uri(small_jpeg(pixels, side), "jpeg")
        self.spent += len(address)
        return address

    def _pixels(self, chosen: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
        def read(i: int) -> Pixels | None:
            look = partial(load_pixels, preprocessing=self.model.preprocessing, max_pixels=CHECKED)
            try:
                return read_sample(self.judged.samples[i], look)
            except PyFluxTransferError:  # it has gone since, or is another
                return None

        for i, pixels in zip(chosen, map_ahead(read, chosen, workers=2, ahead=8), strict=True):
            if pixels is not None:
                yield i, pixels
