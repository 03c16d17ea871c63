from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pyflux_transfer as pft
from pyflux_transfer import comparison
from pyflux_transfer.comparison import Candidate, recommended
from pyflux_transfer.errors import DataError, InputError, WeightsError
from pyflux_transfer.networks.weights import published
from pyflux_transfer.training.estimate import Estimate
from tests import photos
from tests.engines import fake
from tests.training.helpers import Notes

pytestmark = pytest.mark.usefixtures("fake_engine")

CLASSES = ["blue", "green", "red"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "photos", {"blue": 9, "green": 8, "red": 7})


def compare(data: Path, *names: str, **options: object) -> tuple[Candidate, ...]:
    return pft.compare(data, names, engine="fake", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"seed": 3, "class_weights": "auto"}])
def test_a_network_gets_the_numbers_that_training_it_gives(
    folder: Path, options: dict[str, object]
) -> None:
    (row,) = compare(folder, "tiny", **options)
    model = pft.load("tiny", engine="fake").with_head(CLASSES)
    run = model.fit(folder, quality="head", **options)  # type: ignore[arg-type]
    assert row.estimate == run.estimate
    assert (row.weights, row.name, row.error) == ("imagenet1k_v1", "tiny", "")
    assert row.pixels == 8
    assert row.parameters == sum(unit.parameters for unit in model.units)
    assert row.bytes == sum(value.nbytes for value in model.network.state().values())
    assert row.ms > 0
    assert row.tied
    assert row.recommended


def test_photos_are_scanned_once_and_pass_each_trunk_once(folder: Path) -> None:
    notes = Notes()
    rows = compare(folder, "tiny", "tiny=none", "tiny", watcher=notes)
    assert sorted(row.name for row in rows) == ["tiny", "tiny=none"]
    assert notes.bars == {
        "scanning": [24], "tiny: training features": [24], "tiny=none: training features": [24],
    }  # fmt: skip
    assert notes.lines[:2] == ["engine: fake (asked for)", "24 images of 3 classes, 2 networks"]
    again = Notes()
    assert [row.estimate for row in compare(folder, "tiny=none", "tiny", watcher=again)] == [
        row.estimate for row in rows
    ]
    assert set(again.bars) == {"scanning"}


def test_each_network_is_tried_at_each_size(folder: Path) -> None:
    notes = Notes()
    rows = compare(folder, "tiny", "tiny=none", sizes=[8, 12, 8], fit="pad", watcher=notes)
    names = {"tiny@8", "tiny@12", "tiny=none@8", "tiny=none@12"}
    assert {row.name for row in rows} == names
    assert {(row.size, row.pixels) for row in rows} == {(8, 8), (12, 12)}
    assert len(notes.bars) == 1 + len(names)  # no two take each other's features
    model = pft.load("tiny", engine="fake", size=12, fit="pad").with_head(CLASSES)
    (judged,) = (row for row in rows if row.name == "tiny@12")
    assert judged.estimate == model.fit(folder, quality="head").estimate
    assert judged.to_json()["size"] == 12


def test_a_size_that_cannot_be_fails_alone(folder: Path) -> None:
    rows = compare(folder, "tiny", sizes=[8, 0])
    assert [row.name for row in rows] == ["tiny@8", "tiny@0"]
    assert "size must be a whole number" in rows[1].error


def test_weights_that_fail_are_a_row_and_the_others_go_on(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    notes = Notes()
    rows = compare(folder, f"tiny={broken}", "tiny", watcher=notes)
    assert [row.name for row in rows] == ["tiny", f"tiny={broken}"]
    assert rows[0].recommended
    assert "not a readable .safetensors" in rows[1].error
    assert f"tiny={broken}: failed" in notes.lines
    failed = rows[1].to_json()
    assert (failed["ms"], failed["estimate"], failed["tied"]) == (None, None, False)


def test_without_names_those_are_compared_whose_weights_are_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "present", lambda row: row is fake.TINY.weights[0])
    (row,) = pft.compare(folder, engine="fake")
    assert row.name == "tiny"
    monkeypatch.setattr(published, "present", lambda _: False)
    with pytest.raises(WeightsError, match="No network's published weights are on this machine"):
        pft.compare(folder, engine="fake")


def test_the_small_network_of_a_package_is_here() -> None:
    assert Candidate("efficientnet_lite0", "imagenet1k_v1") in comparison.present()


def test_what_cannot_be_compared_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown architecture 'tinny'\. Did you mean 'tiny'"):
        compare(folder, "tinny")
    with pytest.raises(InputError, match=r"must be a list of architectures, got the text 'tiny'"):
        pft.compare(folder, "tiny")
    with pytest.raises(InputError, match=r"takes no steps: leave patience out\. It heeds: batch"):
        compare(folder, "tiny", patience=3)
    with pytest.raises(InputError, match=r"Unknown option 'sead'\. Did you mean 'seed'"):
        compare(folder, "tiny", sead=3)
    few = photos.write(tmp_path / "few", {"blue": 1, "green": 1})
    with pytest.raises(DataError, match="so none can be held out to judge the networks"):
        compare(few, "tiny")
    model = pft.load("tiny", engine="fake").with_head(CLASSES)
    bundle = model.save(tmp_path / "bundle.safetensors")
    assert "is a bundle, which may have learnt" in compare(folder, f"tiny={bundle}")[0].error


def test_photos_that_no_fold_judges_are_told(tmp_path: Path) -> None:
    data, notes = photos.write(tmp_path / "photos", {"blue": 6, "green": 6, "red": 1}), Notes()
    compare(data, "tiny", watcher=notes)
    assert notes.lines[2].startswith("1 photo is not judged: ")


def test_photos_that_cannot_be_read_any_more_end_the_comparison(folder: Path) -> None:
    splits = pft.scan(folder)
    (folder / "red" / "003.png").unlink()
    with pytest.raises(DataError, match="cannot now"):
        pft.compare(splits, ["tiny"], engine="fake")


# --- the ranking ----------------------------------------------------------------------------------


def row(accuracy: float, ms: float, loss: float = 0.1, error: float = 0.02) -> Candidate:
    estimate = Estimate(accuracy, error, loss, 0.01, 640, 5, 1e-3, 8)
    return Candidate("tiny", "none", ms=ms, estimate=estimate)


def test_the_quickest_of_those_within_one_standard_error_of_the_best_is_recommended() -> None:
    found = comparison._ranked([
        row(0.90, 1), row(0.94, 5), row(0.95, 9), row(0.931, 4), row(0.929, 3),
    ])  # fmt: skip
    assert [r.ms for r in found] == [9, 5, 4, 3, 1]
    assert [r.tied for r in found] == [True, True, True, False, False]
    assert [r.recommended for r in found] == [False, False, True, False, False]
    assert recommended(found).ms == 4


def test_among_equal_accuracies_the_lower_log_loss_comes_first() -> None:
    found = comparison._ranked([row(1, 1, 0.2, error=0), row(1, 2, 0.1, error=0)])
    assert [r.ms for r in found] == [2, 1]
    assert recommended(found).ms == 1


def test_where_all_have_failed_nothing_is_recommended() -> None:
    found = comparison._ranked([replace(row(1, 1), estimate=None, error="It is damaged.")])
    with pytest.raises(WeightsError, match=r"None of the networks .* tiny=none: It is damaged"):
        recommended(found)


def test_a_trunk_is_timed_by_batches_of_16_of_its_own_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock ticks seconds: 1, 2, 4 of them are three batches' times."""
    ticks = iter(np.cumsum([0, 1, 1, 2, 1, 4]).tolist())
    seen = []
    model = pft.load("tiny", engine="fake").with_head(CLASSES)
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(model.network, "embed", lambda images: seen.append(images.shape))
    assert comparison._ms(model) == 2 * 1000 / 16
    assert seen == [(16, 3, 8, 8)] * 4
