from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pyflux_transfer as pft
from pyflux_transfer.data.dataset import Dataset, scan
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training import recipe
from pyflux_transfer.training.belonging import by_folds, by_validation, of_others
from pyflux_transfer.training.head import solve_head
from pyflux_transfer.training.recipe import Effort
from pyflux_transfer.training.ways import Way
from tests import photos
from tests.engines import fake
from tests.training.helpers import NOWHERE, Notes, network
from tests.training.test_recipe import maker, run

pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return scan(photos.write(tmp_path / "photos", {"blue": 12, "green": 9, "red": 7})).train


def test_the_folds_of_the_head_judge(data: Dataset) -> None:
    built = network()
    built.cut_at(len(built.units) - 1)
    asked = maker(built)
    found = solve_head(asked, data)
    assert found.start
    known = by_folds(asked.plain(data), found.start)
    assert known.photos == int(found.start.learnt.sum()) == 28
    assert 0 < known.threshold <= 1


def test_the_run_and_the_line_that_closes_it_tell_of_it(data: Dataset) -> None:
    _, found, notes = run(data)
    assert found.belonging.photos == 28
    assert notes.lines[-1] == found.belonging.sentence()


def test_deeper_training_is_judged_by_photos_its_trunk_has_not_seen(data: Dataset) -> None:
    built, found, _ = run(data, effort=Effort((Way(1, 3e-2),), 1.0))
    _, head, _ = run(data)
    assert found.belonging
    if found.estimate.deeper:
        assert found.belonging.photos == found.estimate.photos
        assert not np.array_equal(found.belonging.space.mean, head.belonging.space.mean)
    built.cut_at(len(built.units) - 1)
    asked = maker(built)
    start = solve_head(asked, data).start
    assert start
    photos = np.flatnonzero(start.folds == 0)
    scores = of_others(asked, data, start, photos, 0)
    assert scores.shape == photos.shape
    assert ((scores >= 0) & (scores < 1.1)).all()


def test_where_nothing_is_held_out_there_is_none(tmp_path: Path) -> None:
    lone = scan(photos.write(tmp_path / "lone", {"blue": 1, "green": 1, "red": 1})).train
    _, found, _ = run(lone)
    assert found.belonging is None


def test_validation_photos_judge_steps(tmp_path: Path) -> None:
    folder = photos.write(tmp_path / "photos", {"blue": 10, "red": 10})
    model = pft.load("tiny", engine="fake").with_head(["blue", "red"])
    run = model.fit(folder, epochs=1, valid=0.2, cache=False)
    assert model.belonging is run.belonging is not None
    assert run.belonging.photos == 4
    again = Notes()
    model.fit(folder, epochs=1, valid=None, cache=False, watcher=again)
    assert model.belonging is None
    assert "cannot tell which photos are none of these" in again.lines[-1]


def test_each_photo_passes_the_trunk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and what is learnt beside them share the features, though none are kept."""
    folder = photos.write(tmp_path / "photos", {"blue": 10, "red": 10})
    model = pft.load("tiny", engine="fake").with_head(["blue", "red"])
    passed: list[int] = []
    embed = fake.FakeNetwork.embed

    def counted(self: fake.FakeNetwork, images: Array) -> Array:
        passed.append(len(images))
        return embed(self, images)

    monkeypatch.setattr(fake.FakeNetwork, "embed", counted)
    model.fit(folder, epochs=2, valid=0.2, cache=False)
    assert sum(passed) == 20


def test_of_one_photo_nothing_is_learnt(data: Dataset) -> None:
    one = replace(data, samples=data.samples[:1])
    assert by_validation(maker(network()), one, data) is None


def test_it_is_part_of_what_the_recipe_keeps(data: Dataset, tmp_path: Path) -> None:
    """The trials of a run folder bring their scores back."""
    from pyflux_transfer.training.options import Options
    from pyflux_transfer.training.trials import Trials
    from tests.engines import fake

    found = []
    for resume in (False, True):
        found.append(
            recipe.follow(
                network(), fake.TINY.preprocessing, data, None, Options(), NOWHERE, Notes(),
                Effort((Way(1, 3e-2),), 1.0), Trials.of(tmp_path / "run", resume),
            )
        )  # fmt: skip
    assert found[0].belonging
    assert found[0].belonging.to_json() == found[1].belonging.to_json()  # type: ignore[union-attr]
