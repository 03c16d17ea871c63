from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer.data.dataset import Dataset, scan
from pyflux_transfer.networks.tensors import State
from pyflux_transfer.training import deeper
from pyflux_transfer.training.callbacks import Timer
from pyflux_transfer.training.deeper import Deeper
from pyflux_transfer.training.examples import Maker
from pyflux_transfer.training.features import Cache, Features
from pyflux_transfer.training.head import solve_head
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.trials import Trials
from pyflux_transfer.training.ways import Way
from tests.engines import fake
from tests.training.helpers import Notes, network

pytestmark = pytest.mark.usefixtures("fake_engine")

PAYS = Way(1, 1e-2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Photos whose class is how far apart the light and dark pixels are: no mean tells it."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label, (low, high) in {"far": (20, 235), "near": (100, 155), "mid": (60, 195)}.items():
        (folder / label).mkdir()
        for i in range(30):
            light = np.where(rng.random((10, 10, 1)) < 0.5, low, high) + rng.normal(0, 25, 3)
            pixels = np.clip(light + rng.normal(0, 12, (10, 10, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i:03}.png")
    return scan(folder).train


class Made:
    """A solved head, and what goes deeper from it."""

    def __init__(self, data: Dataset, folder: Path, until: float = float("inf"), **options: Any):
        self.notes, self.network = Notes(), network()
        chosen = Options(**{"batch_size": 8, **options})
        self.maker = Maker(
            self.network, fake.TINY.preprocessing, chosen, Cache(folder), Timer(), self.notes
        )
        solved = solve_head(self.maker, data)
        assert solved.start
        self.start = solved.start
        self.before = self.network.state()
        self.deeper = Deeper(self.maker, data, solved.start, until)


def same(one: State, other: State) -> bool:
    return all(np.array_equal(value, other[name]) for name, value in one.items())


def changed(made: Made) -> set[str]:
    """Return the first words of the names of what is no longer as after solving the head."""
    now = made.network.state()
    return {n.split(".")[0] for n, v in now.items() if not np.array_equal(v, made.before[n])}


def test_a_way_that_gains_on_photos_held_out_is_chosen_and_followed(
    data: Dataset, tmp_path: Path
) -> None:
    made = Made(data, tmp_path)
    choice = made.deeper.choose([PAYS])
    assert choice
    assert choice.verdict.gain > choice.verdict.error > 0
    assert choice.folds == 5
    assert same(made.network.state(), made.before)
    records = list(made.deeper.follow(choice))
    assert [record.epoch for record in records] == list(range(2, 2 + made.deeper.epochs(PAYS, 90)))
    assert {record.phase for record in records} == {2}
    assert changed(made) == {"conv1", "bn1", "conv2", "bn2", "conv3", "classifier"}
    means = [name for name in made.before if "running" in name]
    now = made.network.state()
    assert all(np.array_equal(now[name], made.before[name]) for name in means)


def test_the_best_of_several_is_chosen(data: Dataset, tmp_path: Path) -> None:
    made = Made(data, tmp_path)
    choice = made.deeper.choose([Way(1, 1e-3), PAYS])
    assert choice
    alone = [Made(data, tmp_path).deeper.choose([way]) for way in (Way(1, 1e-3), PAYS)]
    gains = [one.verdict.gain for one in alone if one]
    assert choice.verdict.gain == pytest.approx(max(gains))


def test_a_way_goes_on_as_long_as_longer_is_better(data: Dataset, tmp_path: Path) -> None:
    short = Way(1, 3e-2)
    found = [Made(data, tmp_path).deeper.choose([short], longest) for longest in (1, 2, 64)]
    times = [choice.way.times for choice in found if choice]
    gains = [choice.verdict.gain for choice in found if choice]
    assert times[:2] == [1, 2]
    assert 2 <= times[2] < 64
    assert gains == sorted(gains)


def test_a_way_that_is_no_better_when_longer_stays_as_it_is(data: Dataset, tmp_path: Path) -> None:
    made = Made(data, tmp_path)
    choice = made.deeper.choose([Way(1, 3e-2)], 64)
    assert choice
    assert choice.way.times < 64
    longer = f"{2 * choice.way.times} times as long"
    assert longer in made.notes.lines[-1]  # was judged, and not taken
    assert same(made.network.state(), made.before)


def test_a_longer_way_without_time_stays_as_it_is(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, attempt = Made(data, tmp_path), Deeper._try
    monkeypatch.setattr(
        Deeper, "_try", lambda self, way, fold: attempt(self, way, fold) if way.times < 2 else None
    )
    choice = made.deeper.choose([PAYS], 4)
    assert choice
    assert choice.way == PAYS


@pytest.mark.parametrize("way", [Way(1, 1e-9), Way(1, 3.0)])
def test_a_way_that_gains_nothing_is_not_taken(way: Way, data: Dataset, tmp_path: Path) -> None:
    made = Made(data, tmp_path)
    assert made.deeper.choose([way]) is None
    assert same(made.network.state(), made.before)


def test_a_way_that_has_lost_is_not_tried_again(data: Dataset, tmp_path: Path) -> None:
    made = Made(data, tmp_path)
    made.deeper.choose([Way(1, 3.0), Way(1 / 2, 1e-2)])
    assert len(made.notes.bars["trying from stem"]) < len(made.notes.bars["trying from stage2"])


def test_a_trial_never_learns_from_its_judges(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, learnt, folds = Made(data, tmp_path), list[set[str]](), list[int]()
    training, attempt = Maker.training, Deeper._try

    def noted(self: Maker, dataset: Dataset) -> Any:
        learnt.append({sample.digest for sample in dataset.samples})
        return training(self, dataset)

    def tried(self: Deeper, way: Way, fold: int) -> Any:
        folds.append(fold)
        return attempt(self, way, fold)

    monkeypatch.setattr(Maker, "training", noted)
    monkeypatch.setattr(Deeper, "_try", tried)
    made.deeper.choose([PAYS])
    assert folds == [0, 1, 2, 3, 4]
    for fold, seen in zip(folds, learnt, strict=True):
        judges = {
            s.digest for s, f in zip(data.samples, made.start.folds, strict=True) if f == fold
        }
        assert not seen & judges
        assert len(seen) + len(judges) == 90


def test_only_so_many_folds_judge_as_it_takes(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deeper, "JUDGED", 30)
    choice = Made(data, tmp_path).deeper.choose([PAYS])
    assert choice
    assert choice.folds == 2
    assert len(choice.verdict.answers.photos) == 36


def test_no_trial_begins_when_the_time_is_up(data: Dataset, tmp_path: Path) -> None:
    made = Made(data, tmp_path, until=0)
    assert made.deeper.choose([PAYS]) is None
    assert made.notes.lines[-1] == "from stem is left out: the time is up"
    assert same(made.network.state(), made.before)


def test_interrupted_while_choosing_or_following_it_is_as_before(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(data, tmp_path)
    choice = made.deeper.choose([PAYS])
    assert choice
    following = made.deeper.follow(choice)
    next(following)
    next(following)
    assert not same(made.network.state(), made.before)
    following.close()
    assert same(made.network.state(), made.before)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Deeper, "_answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.deeper.choose([PAYS])
    assert same(made.network.state(), made.before)


def test_half_the_way_is_half_way(data: Dataset, tmp_path: Path) -> None:
    made = Made(data, tmp_path)
    choice = made.deeper.choose([PAYS])
    assert choice
    ends = {}
    for kept in (0.5, 1.0):
        made.network.load_state(made.before)
        list(made.deeper.follow(replace(choice, kept=kept)))
        ends[kept] = made.network.state()
    for name, value in ends[0.5].items():
        middle = (made.before[name] + ends[1.0][name]) / 2
        np.testing.assert_allclose(value, middle, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("room", "views"), [(2**32, deeper.VIEWS), (0, 0)])
def test_augmented_features_are_kept_where_there_is_room(
    room: int, views: int, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deeper, "ROOM", room)
    made, asked = Made(data, tmp_path), list[tuple[str, int]]()
    training = Maker.training

    def noted(self: Maker, dataset: Dataset) -> Any:
        asked.append((self.options.augment, self.options.views))
        return training(self, dataset)

    monkeypatch.setattr(Maker, "training", noted)
    made.deeper.choose([Way(1 / 2, 1e-2, "crop")])
    assert set(asked) == {("crop", views)}


@pytest.mark.parametrize(
    ("photos", "epochs"), [(5, 8), (240, 8), (384, 5), (1000, 3), (100_000, 3)]
)
def test_epochs_are_as_many_as_make_enough_steps(
    photos: int, epochs: int, data: Dataset, tmp_path: Path
) -> None:
    assert Made(data, tmp_path, batch_size=32).deeper.epochs(PAYS, photos) == epochs
    longer = replace(PAYS, times=4)
    assert Made(data, tmp_path, batch_size=32).deeper.epochs(longer, photos) == 4 * epochs


def test_a_class_that_one_fold_holds_alone_does_not_judge(data: Dataset, tmp_path: Path) -> None:
    made = Made(data, tmp_path)
    made.start.learnt[made.start.folds == 1] = False
    choice = made.deeper.choose([PAYS])
    assert choice
    assert choice.folds == 4
    assert not (made.start.folds[choice.verdict.answers.photos] == 1).any()


def test_photos_stand_beside_their_augmented_views() -> None:
    plain, views = (
        Features((1,), len(rows), lambda i, rows=rows: rows[np.asarray(i, np.intp)])
        for rows in (np.float32([[0], [10]]), np.float32([[1], [2], [11], [12]]))
    )
    both = deeper._beside(plain, views)
    assert both.count == 6
    assert both.take([0, 1, 2, 5, 3, 4]).ravel().tolist() == [0, 1, 2, 12, 10, 11]
    assert both.take([3]).tolist() == [[10]]


def test_an_interrupted_search_goes_on_behind_its_trials(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Made(data, tmp_path)
    whole = alone.deeper.choose([PAYS])
    assert whole
    assert "_setting" not in vars(alone.deeper)  # digested only where trials are kept
    made, answer, calls = Made(data, tmp_path), Deeper._answer, list[int]()

    def third_time(self: Deeper, photos: Any) -> Any:
        calls.append(len(photos))
        if len(calls) == 5:  # half-way and at the end, of two trials
            raise KeyboardInterrupt
        return answer(self, photos)

    monkeypatch.setattr(Deeper, "_answer", third_time)
    made.deeper.trials = Trials(tmp_path / "trials")
    with pytest.raises(KeyboardInterrupt):
        made.deeper.choose([PAYS])
    assert len(list((tmp_path / "trials").iterdir())) == 2
    again = Made(data, tmp_path)
    again.deeper.trials = made.deeper.trials
    found = again.deeper.choose([PAYS])
    assert found
    assert len(again.notes.bars["trying from stem"]) == 3
    np.testing.assert_array_equal(found.verdict.answers.logits, whole.verdict.answers.logits)
    other = Made(data, tmp_path, label_smoothing=0.1)
    other.deeper.trials = made.deeper.trials
    other.deeper.choose([PAYS])
    assert len(other.notes.bars["trying from stem"]) == 5


def test_features_that_find_no_room_leave_a_way_out(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deeper, "ROOM", 1000)
    made = Made(data, tmp_path)
    assert made.deeper.choose([Way(1 / 2, 1e-2)]) is None
    assert made.notes.lines[-1] == "from stage2 is left out: its features would take 0 GiB"
