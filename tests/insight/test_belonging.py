from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pyflux_transfer.errors import InputError
from pyflux_transfer.insight import belonging
from pyflux_transfer.insight.belonging import Belonging, Space, held_out, kept, learn, some
from pyflux_transfer.networks.tensors import Array


def rows(count: int, width: int = 40, inside: int = 5, seed: int = 0) -> Array:
    """Return features that vary along a few directions, those of seed 0, and little beside."""
    directions = np.random.default_rng(0).normal(size=(inside, width))
    rng = np.random.default_rng(seed + 1)
    varied = rng.normal(size=(count, inside)) @ directions + 0.1 * rng.normal(size=(count, width))
    return np.asarray(varied + 3, np.float32)


def of(space: Space, cosines: Array) -> Belonging:
    """Return belonging by cosines alone: the logits are all the same."""
    return Belonging.of(space, cosines, np.zeros((len(cosines), 2), np.float32))


def scores(found: Belonging, features: Array) -> Array:
    return found.score(features, np.zeros((len(features), 2), np.float32))


def others(count: int, width: int = 40) -> Array:
    return np.asarray(3 + np.random.default_rng(9).normal(size=(count, width)), np.float32)


def test_the_score_is_the_cosine_to_the_directions() -> None:
    directions = np.float32([[1, 0, 0], [0, 1, 0]])
    space = Space(np.float32([1, 1, 1]), np.float32([1, 1, 2]), directions)
    asked = np.float32([[4, 1, 1], [1, 1, 9], [4, 5, 11], [1, 1, 1]])
    np.testing.assert_allclose(space.score(asked), [1, 0, np.sqrt(0.5), 1], atol=1e-6)
    assert space.score(asked.reshape(4, 3, 1, 1)).dtype == np.float32


@pytest.mark.parametrize(("count", "width"), [(300, 40), (30, 40), (400, 300)])
def test_photos_like_the_learnt_score_higher_than_others(count: int, width: int) -> None:
    """Many photos and few, and so many of both that directions are found by iteration."""
    space = learn(rows(count, width))
    inside, outside = space.score(rows(200, width, seed=1)), space.score(others(200, width))
    assert np.quantile(inside, 0.05) > np.quantile(outside, 0.95)


def test_directions_are_orthonormal_and_few(monkeypatch: pytest.MonkeyPatch) -> None:
    given = np.random.default_rng(0).normal(size=(400, 300)).astype(np.float32)
    found = learn(given).directions
    assert found.shape == (belonging.DIRECTIONS, 300)
    np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=1e-5)
    monkeypatch.setattr(belonging, "_EXACT", 1000)
    exact = learn(given).directions
    variance = [np.square(given @ d.T).sum() for d in (found, exact)]
    assert variance[0] > 0.97 * variance[1]


def test_ten_photos_are_learnt_with_some_directions_left_for_others() -> None:
    space = learn(rows(10, 200, inside=20))
    assert space.directions.shape == (7, 200)
    assert space.score(rows(10, 200, inside=20)).max() <= 1


def test_photos_that_are_all_the_same_belong() -> None:
    same = np.full((4, 6), 2, np.float32)
    space = learn(same)
    np.testing.assert_array_equal(space.score(same), 1)
    assert np.isfinite(space.score(same + 1)).all()


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"features of 40 numbers, got 7"):
        learn(rows(20)).score(np.ones((2, 7), np.float32))


def test_held_out_photos_are_judged_without_themselves() -> None:
    """One that is alone in its kind belongs only to what has learnt from it."""
    given = np.concatenate([rows(40), 30 * others(1)])
    folds = np.arange(41) % 5
    folds[0] = -1
    apart = held_out(given, folds)
    assert np.isnan(apart[0])
    assert np.isfinite(apart[1:]).all()
    assert learn(given).score(given)[40] > 0.95
    assert apart[40] < apart[1:40].min()


def test_the_threshold_keeps_the_share_that_is_wanted_of_unseen_photos() -> None:
    space = learn(rows(400))
    found = of(space, space.score(rows(2000, seed=1)))
    fresh = scores(found, rows(4000, seed=2))
    for share in (0.95, 0.8, 0.99):
        assert found.keeping(share).sure(fresh).mean() == pytest.approx(share, abs=0.015)
    assert found.threshold == found.keeping(0.95).threshold
    assert found.keeping(1).sure(scores(found, rows(2000, seed=1))).all()


def test_a_photo_that_is_unlike_in_either_way_scores_lower() -> None:
    space, rng = learn(rows(60)), np.random.default_rng(3)
    known, logits = rows(60, seed=1), rng.normal(0, 1, (60, 3)).astype(np.float32)
    logits[:, 1] += 6
    found = Belonging.of(space, space.score(known), logits)
    usual, low = np.median(logits, axis=0)[None].repeat(60, 0), np.zeros((60, 3), np.float32)
    assert np.median(found.score(known, usual)) > 0.4
    assert found.score(known, low).mean() < found.score(known, usual).mean()
    assert found.score(others(60), usual).mean() < found.score(known, usual).mean()


def test_of_two_ways_to_belong_one_does_not_make_up_for_the_other() -> None:
    space, rng = learn(rows(60)), np.random.default_rng(3)
    known = rows(60, seed=1)
    found = Belonging.of(space, space.score(known), rng.normal(1, 0.3, (60, 3)).astype("f4"))
    surest = np.zeros((60, 3), np.float32)
    surest[:, 1] = 100
    assert not found.sure(found.score(others(60), surest)).any()


def test_odds_are_those_of_the_probability() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, 4)).astype(np.float32)
    powers = np.exp(logits.astype(np.float64))
    p = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose(belonging.odds(logits), np.log(p / (1 - p)), rtol=1e-6)
    np.testing.assert_allclose(belonging.odds(logits + 5), belonging.odds(logits), atol=1e-5)
    assert belonging.odds(np.float32([[90, 0, 0]])) == pytest.approx(90 - np.log(2))


@pytest.mark.parametrize(("count", "folds"), [(40, 5), (90, 5), (110, 3), (200, 5)])
def test_photos_held_out_tell_what_is_kept_of_new_ones(count: int, folds: int) -> None:
    """Each fold's space is worse than the last one: what is held out tells of that."""
    kept, without = [], []
    for seed in range(0, 16, 2):
        given, fresh = fading(count, seed), fading(500, seed + 1)
        parts, space = np.arange(count) % folds, learn(given)
        alone = np.empty(count, np.float32)
        for fold in range(folds):
            alone[parts == fold] = learn(given[parts != fold]).score(given[parts == fold])
        for cosines, shares in ((held_out(given, parts), kept), (alone, without)):
            found = of(space, cosines)
            shares.append(found.sure(scores(found, fresh)).mean())
    assert 0.94 < np.mean(kept) < np.mean(without) - 0.004


def fading(count: int, seed: int) -> Array:
    """Return features that vary less and less along their directions, as those of photos do."""
    values = np.random.default_rng(seed).normal(size=(count, 300))
    return np.asarray(values * np.arange(1.0, 301) ** -0.7, np.float32)


def test_of_two_folds_nothing_more_is_told() -> None:
    given, parts = rows(20), np.arange(20) % 2
    alone = learn(given[1::2]).score(given[::2])
    np.testing.assert_array_equal(held_out(given, parts)[::2], alone)


def test_bundles_of_old_scored_by_the_energy() -> None:
    one = made()
    row = one.to_json()
    assert row.pop("logits") == "odds"
    old = Belonging.from_json(row, one.tensors())
    assert old.logits == "energy"
    logits = np.float32([[9, 9, 9], [3, 0, 0]])
    asked = rows(2)
    total = (one.space.score(asked) - one.usual[0]) / one.usual[1]
    total = total + (belonging.energy(logits) - one.usual[2]) / one.usual[3]
    expected = 1 / (1 + np.exp(-np.clip(total / belonging.SPREAD, -50, 50)))
    np.testing.assert_allclose(old.score(asked, logits), expected, rtol=1e-5)


def test_of_few_photos_the_lowest_is_the_threshold() -> None:
    found = of(learn(rows(20)), np.float32([0.9, 0.5, 0.7, 0.8]))
    assert found.threshold == found.scores[0]
    low = found.threshold
    assert found.sure(np.float32([low, low - 1e-3])).tolist() == [True, False]
    assert found.error > 0.1
    assert "95 ± " in found.sentence()
    assert "4 held out" in found.sentence()


def test_what_cannot_be_kept_is_refused() -> None:
    found = of(learn(rows(20)), np.float32([0.9, 0.5]))
    with pytest.raises(InputError, match=r"from 0 to 1, got 95"):
        found.keeping(95)
    with pytest.raises(InputError, match=r"keep=0.9 means nothing"):
        kept(None, 0.9)
    assert kept(None, None) is None
    assert kept(found, 0.5) == found.keeping(0.5)
    with pytest.raises(InputError, match="at least one photo"):
        of(found.space, np.zeros(0, np.float32))


def made() -> Belonging:
    return of(learn(rows(60)), np.linspace(0.2, 0.9, 30).astype(np.float32))


def test_it_comes_back_from_plain_data_and_tensors() -> None:
    one = made()
    other = Belonging.from_json(one.to_json(), one.tensors())
    assert replace(other, space=one.space) == one
    np.testing.assert_array_equal(other.space.directions, one.space.directions)
    size = sum(tensor.nbytes for tensor in one.tensors().values())
    assert size <= 4 * 40 * (belonging.DIRECTIONS + 2)


@pytest.mark.parametrize(
    ("fields", "tensors", "says"),
    [
        ({"threshold": 2}, {}, "holds 2, which is not from 0 to 1"),
        ({"kept": None}, {}, "holds None"),
        ({"usual": [0.5, 0, 1, 1]}, {}, "usual must be medians"),
        ({"photos": 0}, {}, "photos must be a positive integer, got 0"),
        ({"photos": True}, {}, "photos must be a positive integer"),
        ({"scores": [0.5]}, {}, "101 numbers that rise"),
        ({"colour": 1}, {}, "unknown fields of belonging"),
        ({"logits": "odd"}, {}, "Unknown sign 'odd'"),
        ({"logits": 1}, {}, "belonging.logits must be text"),
        ({}, {"other": np.ones(1, np.float32)}, "unknown tensors of belonging"),
        ({}, {"scale": np.zeros(40, np.float32)}, "not positive"),
        ({}, {"scale": np.ones(3, np.float32)}, "have shapes"),
        ({}, {"mean": np.full(40, np.nan, np.float32)}, "belonging.mean.*not finite"),
        ({}, {"directions": np.ones((0, 40), np.float32)}, "have shapes"),
    ],
)
def test_what_cannot_be_is_refused(
    fields: dict[str, Any], tensors: dict[str, Array], says: str
) -> None:
    one = made()
    with pytest.raises(InputError, match=says):
        Belonging.from_json({**one.to_json(), **fields}, {**one.tensors(), **tensors})


def test_of_very_many_photos_some_are_enough() -> None:
    assert some(10, 5).tolist() == list(range(10))
    chosen = some(100_000, 512)
    assert len(chosen) == belonging.MOST
    assert (np.diff(chosen) > 0).all()
    assert len(some(100_000, 2**20)) == 64
