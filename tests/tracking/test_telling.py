"""Trackers around a run: told everything in order, and no danger to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import pyflux_transfer as pft
from pyflux_transfer import fitting
from pyflux_transfer.cli.app import app
from pyflux_transfer.errors import DataError, InputError
from pyflux_transfer.insight import plot
from pyflux_transfer.tracking.tracker import TRACKERS, trackers
from tests import photos
from tests.training.helpers import Notes, interrupt_after

pytestmark = pytest.mark.usefixtures("fake_engine")

COUNTS = {"blue": 6, "green": 6, "red": 6}


class Remembers:
    """A tracker in memory, which fails in the methods of `fails`."""

    def __init__(self, *fails: str) -> None:
        self.fails = fails
        self.calls: list[tuple[Any, ...]] = []

    def start(self, name: str) -> None:
        self._take("start", name)

    def parameters(self, values: Mapping[str, Any]) -> None:
        self._take("parameters", values)

    def metrics(self, values: Mapping[str, float], epoch: int | None) -> None:
        self._take("metrics", values, epoch)

    def picture(self, name: str, png: bytes) -> None:
        self._take("picture", name, png)

    def text(self, name: str, text: str) -> None:
        self._take("text", name, text)

    def file(self, path: Path) -> None:
        self._take("file", path.name, pft.load(path, engine="fake"))

    def end(self, status: str) -> None:
        self._take("end", status)

    def _take(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] in self.fails:
            raise ConnectionError(f"{call[0]} is out of order\nand more")

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "photos", COUNTS)


def model() -> pft.Classifier:
    return pft.load("tiny", engine="fake").with_head(list(COUNTS))


def test_the_recipe_tells_what_there_is(data: Path) -> None:
    kept = Remembers()
    run = model().fit(data, quality="head", log=kept)
    assert [call[0] for call in kept.calls] == [
        "start", "parameters", "metrics", "metrics", "picture", "file", "text", "end",
    ]  # fmt: skip
    ((name,),) = kept.of("start")
    assert name.startswith("tiny-2")
    ((parameters,),) = kept.of("parameters")
    assert {k: parameters[k] for k in ("architecture", "images", "classes", "way", "seed")} == {
        "architecture": "tiny", "images": 18, "classes": 3, "way": "recipe", "seed": 0,
    }  # fmt: skip
    assert all(isinstance(value, (str, int, float)) for value in parameters.values())
    (head, first), (final, last) = kept.of("metrics")
    assert (first, last) == (1, None)
    assert run.estimate
    assert head["valid_accuracy"] == final["accuracy"] == run.estimate.accuracy
    assert run.evaluation
    assert run.evaluation.accuracy == pytest.approx(run.estimate.accuracy)
    assert run.evaluation.log_loss == pytest.approx(run.estimate.log_loss, rel=1e-4)
    ((name, bundle),) = kept.of("file")
    assert name == "model.safetensors"
    assert bundle.classes == tuple(COUNTS)
    ((_, text),) = kept.of("text")
    assert "head solved on all photos" in text
    assert text.endswith(list(run.outcome())[-1])
    assert kept.of("end") == [("finished",)]


def test_the_recipes_deeper_epochs_follow_its_head(data: Path) -> None:
    kept = Remembers()
    run = model().fit(data, log=kept)
    epochs = [epoch for _, epoch in kept.of("metrics")]
    assert epochs == [*[record.epoch for record in run.records], None]


def test_steps_tell_each_epoch_and_what_the_validation_was_taken_for(data: Path) -> None:
    kept, notes = Remembers(), Notes()
    model().fit(data, epochs=3, lr=1e-2, log=[kept], watcher=notes)
    assert [epoch for _, epoch in kept.of("metrics")] == [1, 2, 3, None]
    assert [record.epoch for record in notes.records] == [1, 2, 3]
    final, _ = kept.of("metrics")[-1]
    by_epoch = [values["valid_accuracy"] for values, _ in kept.of("metrics")[:3]]
    assert final["accuracy"] == max(by_epoch)
    ((name, png),) = kept.of("picture")
    assert name == "confusion"
    assert png.startswith(b"\x89PNG")
    ((parameters,),) = kept.of("parameters")
    assert (parameters["epochs"], parameters["lr"], parameters["way"]) == (3, 1e-2, "steps")


def test_without_validation_there_is_no_confusion(data: Path) -> None:
    kept = Remembers()
    model().fit(data, epochs=1, valid=None, log=kept)
    assert not kept.of("picture")
    assert kept.of("end") == [("finished",)]


@pytest.mark.parametrize("method", ["parameters", "metrics", "picture", "file", "text", "end"])
def test_a_tracker_that_fails_is_told_no_more_and_loses_nothing(method: str, data: Path) -> None:
    broken, whole, notes = Remembers(method), Remembers(), Notes()
    trained = model()
    run = trained.fit(data, epochs=2, log=[broken, whole], watcher=notes)
    assert len(run.records) == 2
    alone = model()
    alone.fit(data, epochs=2)
    assert trained.evaluate(data) == alone.evaluate(data)
    (said,) = [line for line in notes.lines if "Remembers has failed" in line]
    assert said.startswith(f"Remembers has failed and is told no more: {method} is out of order. ")
    assert broken.calls[-1][0] == method
    assert len(broken.of(method)) == 1
    assert whole.of("end") == [("finished",)]


def test_where_nobody_watches_the_failure_is_a_warning(data: Path) -> None:
    with pytest.warns(RuntimeWarning, match="Remembers has failed and is told no more"):
        model().fit(data, epochs=1, log=Remembers("metrics"))


def test_a_tracker_that_cannot_start_is_an_error_before_anything_is_done(data: Path) -> None:
    whole, notes = Remembers(), Notes()
    with pytest.raises(InputError, match="Remembers cannot be logged to: start is out of order"):
        model().fit(data, log=[whole, Remembers("start")], watcher=notes)
    assert whole.of("end") == [("failed",)]
    assert not notes.lines


@pytest.mark.parametrize("wrong", [DataError("gone"), OSError(28, "full"), KeyboardInterrupt()])
def test_what_fails_beside_the_trackers_loses_nothing(
    wrong: BaseException, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Path:
        raise wrong

    monkeypatch.setattr(fitting, "save", fail)
    kept, notes = Remembers(), Notes()
    assert model().fit(data, epochs=1, log=kept, watcher=notes).records
    assert any("trackers are not told the rest" in line for line in notes.lines)
    assert kept.of("end") == [("interrupted",)]


def test_how_a_run_ends_is_told(data: Path) -> None:
    kept = Remembers()
    model().fit(data, epochs=3, log=kept, watcher=interrupt_after(1))
    assert kept.of("end") == [("interrupted",)]
    assert kept.of("file"), "the best so far"
    kept = Remembers()
    with pytest.raises(InputError):
        model().fit(data, cut="nowhere", log=kept)
    assert not kept.calls, "what can be refused is refused before"
    with pytest.raises(DataError):
        model().fit(data / "gone", log=kept)
    assert kept.of("end") == [("failed",)]


def test_without_matplotlib_the_rest_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise InputError("A plot needs matplotlib.")

    monkeypatch.setattr(plot, "_figure", none)
    kept, notes = Remembers(), Notes()
    model().fit(data, epochs=1, log=kept, watcher=notes)
    assert any(line.startswith("no picture of the confusion matrix") for line in notes.lines)
    assert [call[0] for call in kept.calls][-3:] == ["file", "text", "end"]


@pytest.mark.parametrize(
    ("log", "message"),
    [("tensorbord:x", "Unknown tracker 'tensorbord'. Did you mean 'tensorboard'"), ("", "Unknown")],
)
def test_unknown_trackers_are_refused(log: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trackers(log)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_library_that_is_missing_is_told_with_its_remedy(
    name: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for library in (name, "tensorboard.compat.proto"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"pip install 'pyflux-transfer\[{name}\]'"):
        trackers([f"{name}:x"])
    done = CliRunner().invoke(app, ["train", str(data), "--arch", "tiny", "--log", name])
    assert isinstance(done.exception, InputError)


def test_several_trackers_are_taken_as_they_are() -> None:
    one = Remembers()
    assert trackers(None) == []
    assert trackers(one) == [one]
    assert trackers([one, one]) == [one, one]
