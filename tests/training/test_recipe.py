from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from pyflux_transfer.data.dataset import Dataset, Sample, scan
from pyflux_transfer.data.folds import folds
from pyflux_transfer.engines.base import Labels
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.metrics import log_loss
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.predict import softmax
from pyflux_transfer.training import recipe, verdict
from pyflux_transfer.training.callbacks import Timer
from pyflux_transfer.training.design import Rows, Standard
from pyflux_transfer.training.examples import Maker, labels_of
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.recipe import Effort
from pyflux_transfer.training.ways import Way
from tests import photos
from tests.engines import fake
from tests.training.helpers import NOWHERE, CountingNetwork, Notes, interrupt_after, network

HEAD = Effort.of("head", None)
PAYS = Effort((Way(1, 3e-2),), 1.0)

pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Photos of which the last two of each class are called by another's name."""
    folder = photos.write(tmp_path / "photos", {"blue": 12, "green": 9, "red": 7})
    for label, other in (("blue", "green"), ("green", "red"), ("red", "blue")):
        for i in (998, 999):
            (folder / label / f"{i}.png").write_bytes(
                write_photo(tmp_path / "other.png", other, i).read_bytes()
            )
    return scan(folder).train


def write_photo(path: Path, label: str, seed: int) -> Path:
    Image.fromarray(photos.photo(label, seed)).save(path)
    return path


def maker(built: CountingNetwork, notes: Notes | None = None, **options: Any) -> Maker:
    return Maker(
        built, fake.TINY.preprocessing, Options(**options), NOWHERE, Timer(), notes or Notes()
    )


def run(
    data: Dataset,
    valid: Dataset | None = None,
    effort: Effort = HEAD,
    notes: Notes | None = None,
    **options: Any,
) -> tuple[Any, Any, Notes]:
    built, notes = network(), notes or Notes()
    chosen = Options(**options)
    found = recipe.follow(
        built, fake.TINY.preprocessing, data, valid, chosen, NOWHERE, notes,
        effort,
    )  # fmt: skip
    return built, found, notes


def head(built: CountingNetwork) -> tuple[Array, Array]:
    state = built.state()
    return state["classifier.weight"], state["classifier.bias"]


def optimum(x: Array, y: Labels, decay: float) -> tuple[Array, Array]:
    """Return scikit-learn's weight and bias for standardised features."""
    model = LogisticRegression(C=1 / (decay * len(y)), tol=1e-10, max_iter=100_000)
    model.fit(x, y)
    return model.coef_, model.intercept_


def standard(x: Array, of: Array) -> Array:
    return Standard.of(Rows.of(of)).apply(x)


def test_the_head_is_the_optimum_on_all_photos(data: Dataset) -> None:
    built, found, _ = run(data)
    features, y = maker(built).plain(data), labels_of(data)
    x = features.take(range(features.count))
    weight, bias = optimum(standard(x, x), y, found.estimate.decay)
    wanted = softmax(standard(x, x) @ weight.T + bias)
    ours = softmax(built.logits(x))
    np.testing.assert_allclose(ours, wanted, atol=2e-3)
    assert found.best.train_loss == pytest.approx(log_loss(ours, y), rel=1e-3)


def test_each_photo_passes_the_trunk_once_and_all_train(data: Dataset) -> None:
    built, found, notes = run(data)
    assert len(built.embedded) == len(data.samples)
    assert set(built.embedded.values()) == {1}
    assert notes.bars == {"training features": [34]}
    assert found.stopped == "finished"
    assert set(found.seconds) >= {"trunk", "tail"}


def test_the_estimate_is_that_of_heads_which_have_not_seen_the_photo(data: Dataset) -> None:
    built, found, notes = run(data, seed=3)
    features, y = maker(built).plain(data), labels_of(data)
    x = features.take(range(features.count))
    z, parts = standard(x, x), folds(data, seed=3)
    chances = np.zeros((len(y), 3), np.float32)
    for fold in range(parts.max() + 1):
        mine = parts == fold
        weight, bias = optimum(z[~mine], y[~mine], found.estimate.decay)
        chances[mine] = softmax(z[mine] @ weight.T + bias)
    estimate = found.estimate
    assert estimate.folds == parts.max() + 1 == 5
    assert estimate.accuracy == (chances.argmax(axis=1) == y).mean()
    assert estimate.log_loss == pytest.approx(log_loss(chances, y), abs=0.02)
    spread = (estimate.accuracy * (1 - estimate.accuracy) / len(y)) ** 0.5
    assert estimate.accuracy_error == pytest.approx(spread)
    assert (found.best.valid_accuracy, found.best.valid_loss) == (
        estimate.accuracy, estimate.log_loss,
    )  # fmt: skip
    assert notes.lines[-2].startswith(estimate.sentence())
    assert f"temperature {found.temperature:.2f}" in notes.lines[-2]


def test_groups_are_held_out_whole_and_err_together(data: Dataset) -> None:
    halves = [replace(s, group=f"{s.label}{i % 2}") for i, s in enumerate(data.samples)]
    halved = run(replace(data, samples=tuple(halves)))[1].estimate
    assert halved.folds == 2
    pairs = [replace(s, group=f"{i // 2}") for i, s in enumerate(data.samples)]
    grouped, alone = (run(d)[1].estimate for d in (replace(data, samples=tuple(pairs)), data))
    assert grouped.accuracy_error != alone.accuracy_error


def test_the_same_photos_and_seed_are_the_same_head(data: Dataset) -> None:
    (one, first, _), (other, second, _) = run(data), run(data)
    for mine, its in zip(head(one), head(other), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert (first.estimate, first.temperature) == (second.estimate, second.temperature)


def test_smoothing_and_class_weights_arrive(data: Dataset) -> None:
    plain, smooth, weighed = (
        head(run(data, **options)[0])[1]
        for options in ({}, {"label_smoothing": 0.2}, {"class_weights": "auto"})
    )
    assert not np.allclose(plain, smooth)
    assert not np.allclose(plain, weighed)


def test_validation_images_of_its_own_are_told_apart(data: Dataset, tmp_path: Path) -> None:
    valid = scan(photos.write(tmp_path / "v", {"blue": 4, "green": 4, "red": 4}, seed=9)).train
    built, found, notes = run(data, valid)
    alone = run(data)[0]
    for mine, its in zip(head(built), head(alone), strict=True):
        np.testing.assert_array_equal(mine, its)
    features = maker(built).plain(valid)
    chances = softmax(built.logits(features.take(range(12))), found.temperature)
    accuracy = (chances.argmax(axis=1) == labels_of(valid)).mean()
    loss = log_loss(chances, labels_of(valid))
    wanted = f"on 12 validation images: accuracy {accuracy:.1%}, log loss {loss:.3f}"
    assert wanted in notes.lines


def few(data: Dataset, counts: tuple[int, int, int]) -> Dataset:
    """Return the first so many photos of each class."""
    chosen: list[Sample] = []
    for label, count in enumerate(counts):
        chosen += [sample for sample in data.samples if sample.label == label][:count]
    return Dataset(tuple(chosen), data.classes)


@pytest.mark.parametrize(
    ("counts", "held"), [((12, 9, 1), 5), ((2, 2, 2), 2), ((3, 1, 1), 3), ((2, 1, 1), 2)]
)
def test_few_photos_are_judged_as_far_as_they_can(
    counts: tuple[int, int, int], held: int, data: Dataset
) -> None:
    built, found, notes = run(few(data, counts))
    assert found.estimate.folds == held
    alone = counts.count(1)
    told = [line for line in notes.lines if "not judged" in line]
    assert [line.split()[0] for line in told] == ([str(alone)] if alone else [])
    assert all(np.isfinite(value).all() for value in head(built))
    assert found.temperature > 0


def test_one_photo_a_class_is_solved_unjudged(data: Dataset) -> None:
    built, found, notes = run(few(data, (1, 1, 1)))
    assert (found.estimate, found.temperature, found.best.valid_loss) == (None, 1.0, None)
    assert notes.lines[-1].endswith("none can be held out: the head is unjudged")
    features = maker(built).plain(few(data, (1, 1, 1)))
    assert built.logits(features.take(range(3))).argmax(axis=1).tolist() == [0, 1, 2]
    assert "best epoch 1" in next(found.outcome())


def test_deeper_training_that_pays_is_what_the_run_tells_of(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict.Verdict, "pays", True)
    built, found, notes = run(data, effort=PAYS, batch_size=8)
    alone, head_alone, _ = run(data, batch_size=8)
    assert found.estimate.deeper == "from stem"
    assert (found.estimate.decay, found.estimate.photos) == (head_alone.estimate.decay, 34)
    assert [record.phase for record in found.records] == [1] + [2] * 8
    assert notes.records == list(found.records[1:])
    assert notes.epochs == 9
    assert any(line.startswith(found.estimate.sentence()) for line in notes.lines)
    assert not np.array_equal(built.state()["conv1.weight"], alone.state()["conv1.weight"])
    assert found.temperature != head_alone.temperature


def test_deeper_training_that_does_not_pay_leaves_the_solved_head(data: Dataset) -> None:
    built, found, notes = run(data, effort=Effort((Way(1, 1e-9),), 1.0))
    alone, head_alone, _ = run(data)
    for mine, its in zip(built.state().values(), alone.state().values(), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert found.estimate == head_alone.estimate
    assert notes.lines[-2].endswith("the head alone is kept")


@pytest.mark.parametrize("epoch", [2, 5])
def test_ctrl_c_while_going_deeper_leaves_the_solved_head(
    epoch: int, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict.Verdict, "pays", True)
    built, found, notes = run(data, effort=PAYS, notes=interrupt_after(epoch), batch_size=8)
    alone, head_alone, _ = run(data)
    for mine, its in zip(built.state().values(), alone.state().values(), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert (found.stopped, found.estimate) == ("interrupted", head_alone.estimate)
    assert notes.lines[-2] == "interrupted: the solved head stays"


def test_each_photo_passes_each_part_of_the_trunk_once_in_all_trials(data: Dataset) -> None:
    built, _, notes = run(data, effort=Effort((Way(1 / 2, 1e-2), Way(3 / 4, 1e-2)), 1.0))
    assert len(notes.bars) == 3
    assert set(built.embedded.values()) == {3}  # to the head, to stage2, to stage1


@pytest.mark.parametrize(("quality", "count"), [("head", 0), ("good", 2), ("best", 5)])
def test_a_quality_is_an_effort(quality: str, count: int) -> None:
    effort = Effort.of(quality, None)
    assert len(effort.ways) >= count
    assert effort.longest >= 1
    assert Effort.of(quality, 2.5).minutes == 2.5


@pytest.mark.parametrize(
    ("quality", "minutes", "error"),
    [("god", None, "Did you mean 'good'"), ("good", -1, "at least 0"), ("good", math.nan, "least")],
)
def test_unknown_efforts_are_refused(quality: str, minutes: float | None, error: str) -> None:
    with pytest.raises(InputError, match=error):
        Effort.of(quality, minutes)
