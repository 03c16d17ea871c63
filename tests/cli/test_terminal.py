from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pyflux_transfer.cli import terminal as report
from pyflux_transfer.cli.catalog import models
from pyflux_transfer.cli.terminal import Terminal
from pyflux_transfer.comparison import Candidate
from pyflux_transfer.data.dataset import Skipped
from pyflux_transfer.insight.metrics import ClassScore, Evaluation
from pyflux_transfer.installation.doctor import Check
from pyflux_transfer.predict import Prediction
from pyflux_transfer.training.callbacks import Record
from pyflux_transfer.training.estimate import Estimate
from pyflux_transfer.training.store import Entry
from pyflux_transfer.training.train import Run, Stopped


def console(terminal: bool = False) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=100 if terminal else None,
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip


def text(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def record(epoch: int, accuracy: float | None = 0.5) -> Record:
    loss = None if accuracy is None else 0.25
    return Record(1, epoch, 1.5, loss, accuracy, 1e-3, 0.126)


def test_an_epoch_is_a_line() -> None:
    out = console()
    Terminal(out).epoch(record(3), 25)
    Terminal(out).epoch(record(4, None), 25)
    assert text(out).splitlines() == [
        "epoch  3/25  loss 1.5000  valid loss 0.2500  accuracy 50.0%  lr 0.001  0.13 s",
        "epoch  4/25  loss 1.5000  lr 0.001  0.13 s",
    ]


def test_away_from_a_terminal_work_is_one_plain_line() -> None:
    out = console()
    with Terminal(out).bar("features", 4) as advance:
        for _ in range(4):
            advance(1)
    assert re.fullmatch(r"features: 4 images in \d+\.\d s \(\d+/s\)\n", text(out))


def test_on_a_terminal_work_is_a_bar_with_its_rate_that_leaves_one_line() -> None:
    out = console(terminal=True)
    with Terminal(out).bar("features", 4) as advance:
        advance(2)
        advance(2)
    shown = text(out)
    assert "4/4" in shown
    assert "━" in shown
    last = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]|\r", "", shown).splitlines()[-1]
    assert re.search(r"features: 4 images in \d+\.\d s", last)


def test_work_that_fails_leaves_no_line() -> None:
    out = console()
    with pytest.raises(ZeroDivisionError), Terminal(out).bar("features", 4):
        _ = 1 / 0
    assert text(out) == ""


def test_a_long_line_is_not_broken() -> None:
    out = console()
    Terminal(out).line("x" * 500 + " [bold]y[/] :smile:")
    assert text(out) == "x" * 500 + " [bold]y[/] :smile:\n"


@pytest.mark.parametrize(
    ("stopped", "says"),
    [("finished", "finished"), ("early", "stopped early"), ("interrupted", "interrupted")],
)
def test_a_runs_outcome(stopped: Stopped, says: str) -> None:
    skipped = (Skipped(Path("a.txt"), "not an image"),)
    run = Run((record(1), record(2, 0.75)), record(2, 0.75), {"trunk": 1.24}, skipped, (), stopped)
    assert list(run.outcome()) == [
        f"{says}; best epoch 2, validation accuracy 75.0%",
        "time: trunk 1.2 s",
        "skipped a.txt: not an image",
    ]


def test_an_outcome_without_validation() -> None:
    run = Run((record(1, None),), record(1, None), {}, (), (), "finished")
    assert next(run.outcome()) == "finished; best epoch 1"


def evaluation(classes: int) -> Evaluation:
    scores = tuple(ClassScore(f"class{i}", 0.5, 0.25, 1 / 3, 7) for i in range(classes))
    matrix = tuple(tuple(9 * (i == j) for j in range(classes)) for i in range(classes))
    return Evaluation(7 * classes, 0.5, 0.25, 1.23456, 0.0625, scores, matrix)


def test_an_evaluation_shows_classes_and_confusion() -> None:
    out = console()
    report.evaluation(evaluation(3), out)
    shown = text(out)
    assert shown.startswith("21 images  accuracy 50.0%  balanced accuracy 25.0%  log loss 1.2346")
    assert re.search(r"class1\D+0\.500\D+0\.250\D+0\.333\D+7", shown)
    assert "confusion" in shown
    assert shown.count("·") == 6


def test_the_confusion_of_many_classes_is_left_out() -> None:
    out = console()
    report.evaluation(evaluation(21), out)
    assert "confusion" not in text(out)
    assert "class20" in text(out)


def test_predictions_are_rows_whole_whatever_their_length() -> None:
    out = console()
    name = "photos/" + "long/" * 60 + "a.jpg"
    report.predictions([Prediction(name, "ants", 0.75, (("ants", 0.75), ("bees", 0.25)))], out)
    assert name in text(out)
    assert "bees 25.0%" in text(out)


def test_tables_fit_a_terminal() -> None:
    out = console(terminal=True)
    models(out)
    report.cache([Entry("0123456789abcdef" * 2, (512, 7, 7), 1000, 2**20, 0.0)], "/cache", out)
    plain = re.sub(r"\x1b\[[^m]*m", "", text(out))
    assert max(len(line) for line in plain.splitlines()) <= 100


def candidate(accuracy: float, ms: float, **fields: Any) -> Candidate:
    estimate = Estimate(accuracy, 0.013, 0.125, 0.01, 640, 5, 1e-4, 8)
    rest = {"architecture": "resnet50", "weights": "imagenet1k_v2", "pixels": 224,
            "parameters": 23_500_000, "bytes": 94_000_000}  # fmt: skip
    return Candidate(**{**rest, **fields}, ms=ms, estimate=estimate)


def test_networks_are_ranked_with_signs_and_failures_with_reasons() -> None:
    best = candidate(0.965, 38.24, tied=True)
    lite = candidate(0.958, 5.4, architecture="efficientnet_lite0", weights="imagenet1k_v1",
                     tied=True, recommended=True)  # fmt: skip
    other = candidate(0.9, 2.0, weights="mine.pth")
    failed = Candidate("vgg16", "imagenet1k_v1", error="[it] is damaged. Copy it again.")
    out = console()
    report.comparison([best, lite, other, failed], out)
    rows = [line.split() for line in text(out).splitlines()]
    assert " ".join(rows[2]) == "= resnet50 96.5 ± 1.3 % 0.125 38.2 23.5 M 94.0"
    assert rows[3][:2] == ["→", "efficientnet_lite0"]
    assert rows[4][:2] == ["resnet50=mine.pth", "90.0"]
    assert rows[5] == ["✗", "vgg16", "failed"]
    assert "✗ vgg16: [it] is damaged. Copy it again." in text(out)
    assert "→ the quickest of these 2" in text(out)
    clear = console()
    report.comparison([replace(lite, tied=True), other], clear)
    assert "→ better than the others by more than its standard error" in text(clear)


def test_names_of_networks_are_whole_at_80_columns() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False)
    name = "/models/from-the-microscope/run-7/wide.safetensors"
    wide = candidate(0.9, 1000.0, weights=name, bytes=1_000_000_000, tied=True)
    report.comparison([wide], out)
    plain = re.sub(r"\x1b\[[^m]*m", "", text(out)).splitlines()
    assert max(len(line) for line in plain) <= 80
    assert name in "".join(line[3:].split("  ")[0] for line in plain)


def test_the_cache_is_listed() -> None:
    out = console()
    report.cache([Entry("abc", (512,), 1000, 3 * 2**20, 86_400.0)], "/cache", out)
    assert re.search(r"abc\W+512\W+1000\W+3\.0 MiB\W+1970-01-0", text(out))
    assert "3.0 MiB in /cache" in text(out)


def test_checks_have_their_remedies() -> None:
    out = console()
    report.checks([Check("torch", True, "2.0"), Check("julia", False, "[none]", "install")], out)
    shown = text(out)
    assert re.search(r"✓\W+torch\W+2\.0", shown)
    assert re.search(r"✗\W+julia\W+\[none\]", shown)
    assert "→ install" in shown
