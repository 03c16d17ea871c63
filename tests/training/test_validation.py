from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from pyflux_transfer.engines.base import Labels
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.design import reduce
from pyflux_transfer.training.logistic import Problem, solve
from pyflux_transfer.training.validation import WEAKER, cross_validate, grid
from tests.training.test_logistic import CLASSES, clouds, standardised


def folds(count: int, parts: int = 4) -> Labels:
    return np.arange(count) % parts


def chances(logits: Array) -> Array:
    e = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    return np.asarray(e / e.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("width", [16, 200])
def test_log_loss_and_accuracy_are_scikit_learns(width: int) -> None:
    x, y = clouds(width)
    parts, decays = folds(len(y)), [1e-1, 1e-2, 1e-3]
    found = cross_validate(reduce(x), y, CLASSES, parts, decays)
    z = standardised(x)
    for decay, strength in zip(decays, found.tried, strict=True):
        said = np.empty((len(y), CLASSES))
        for k in range(4):
            kept = parts != k
            peer = LogisticRegression(C=1 / (decay * kept.sum()), tol=1e-8, max_iter=10_000)
            said[~kept] = peer.fit(z[kept], y[kept]).predict_proba(z[~kept])
        assert strength.decay == decay
        assert strength.loss == pytest.approx(log_loss(y, said), abs=1e-3)
        assert strength.accuracy == pytest.approx((said.argmax(1) == y).mean())


def test_the_best_has_the_lowest_log_loss_and_its_logits_say_so() -> None:
    x, y = clouds(200)
    found = cross_validate(reduce(x), y, CLASSES, folds(len(y)))
    assert found.best == min(found.tried, key=lambda strength: strength.loss)
    losses = -np.log(chances(found.logits)[np.arange(len(y)), y])
    assert found.best.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert found.best.loss_error == pytest.approx(losses.std() / np.sqrt(len(y)), rel=1e-5)
    right = (found.logits.argmax(1) == y).mean()
    assert found.best.accuracy == right
    assert found.best.accuracy_error == pytest.approx(np.sqrt(right * (1 - right) / len(y)))


def test_a_head_has_not_seen_the_labels_it_is_judged_by() -> None:
    x, y = clouds(200)
    parts = folds(len(y))
    turned = np.where(parts == 2, (y + 1) % CLASSES, y)
    before, after = (
        cross_validate(reduce(x), labels, CLASSES, parts, [1e-3]).logits for labels in (y, turned)
    )
    np.testing.assert_allclose(before[parts == 2], after[parts == 2], atol=1e-5)
    assert not np.allclose(before[parts != 2], after[parts != 2], atol=1e-2)


def test_photos_that_are_never_held_out_only_teach() -> None:
    x, y = clouds(200)
    parts = np.where(np.arange(len(y)) % 5 == 0, 0, -1)
    found = cross_validate(reduce(x), y, CLASSES, parts, [1e-3])
    np.testing.assert_array_equal(found.held_out, parts == 0)
    np.testing.assert_array_equal(found.learnt, parts == 0)
    assert not found.logits[parts < 0].any()
    losses = -np.log(chances(found.logits)[np.arange(len(y)), y])
    assert found.best.loss == pytest.approx(losses[parts == 0].mean(), rel=1e-5)
    seen = (found.logits.argmax(1) == y)[parts == 0]
    assert found.best.accuracy == seen.mean()


@pytest.mark.parametrize("decays", [None, [1e-2, 1e-4, 1e-6]])
def test_a_class_that_a_fold_has_not_learnt_counts_as_wrong_but_not_in_the_log_loss(
    decays: list[float] | None,
) -> None:
    x, y = clouds(200)
    parts = folds(len(y))
    y[y == 2] = 0
    y[parts == 1] = np.where(np.arange((parts == 1).sum()) < 3, 2, y[parts == 1])
    found = cross_validate(reduce(x), y, CLASSES, parts, decays)
    np.testing.assert_array_equal(found.learnt, y != 2)
    losses = -np.log(chances(found.logits)[np.arange(len(y)), y])
    assert found.best.loss == pytest.approx(losses[y != 2].mean(), rel=1e-5)
    assert found.best.accuracy == (found.logits.argmax(1) == y).mean()
    assert not (found.logits.argmax(1) == 2)[parts == 1].any()
    assert np.abs(found.logits).max() < 100


def test_class_weights_weigh_the_log_loss() -> None:
    x, y = clouds(200)
    weights = np.array([1.0, 5.0, 0.1], np.float32)
    found = cross_validate(reduce(x), y, CLASSES, folds(len(y)), [1e-3], weights=weights)
    losses = -np.log(chances(found.logits)[np.arange(len(y)), y])
    wanted = np.average(losses, weights=weights[y])
    assert found.best.loss == pytest.approx(wanted, rel=1e-5)


def test_where_nothing_can_be_learnt_stronger_decays_are_tried() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 30)).astype(np.float32), rng.integers(3, size=80)
    found = cross_validate(reduce(x), y, 3, folds(80))
    decays = [strength.decay for strength in found.tried]
    assert decays[0] > grid(80)[0]
    assert decays == sorted(decays, reverse=True)


def test_where_weaker_is_better_for_ever_it_comes_to_an_end() -> None:
    y = np.arange(80) % 2
    x = np.column_stack([y, -y]).astype(np.float32)
    found = cross_validate(reduce(x), y, 2, folds(80))
    losses = [strength.loss for strength in found.tried]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) < WEAKER
    assert losses[-1] < losses[-3] < 0.5 / 80  # that is the nats of half a photo among 80
    assert found.best.accuracy == 1
    assert np.isfinite(found.logits).all()


def test_without_decays_those_of_the_grid_are_tried_until_the_loss_has_ceased_to_fall() -> None:
    x, y = clouds(200)
    found = cross_validate(reduce(x), y, CLASSES, folds(len(y)))
    tried = [strength.decay for strength in found.tried]
    shared = min(len(tried), len(grid(len(y))))
    np.testing.assert_allclose(tried[:shared], grid(len(y))[:shared])
    assert found.tried.index(found.best) == len(tried) - 3


def test_the_folds_mean_is_a_start_near_the_head_of_all_photos() -> None:
    x, y = clouds(200)
    reduced = reduce(x)
    found = cross_validate(reduced, y, CLASSES, folds(len(y)))
    problem = Problem.of(reduced, y, CLASSES)
    cold, warm = (solve(problem, found.best.decay, start) for start in (None, found.start))
    np.testing.assert_allclose(warm.weight, cold.weight, atol=1e-3 * np.abs(cold.weight).max())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([0] * 6, r"folds of \[6\] of 6"),
        ([-1] * 6, r"folds of \[0\] of 6"),
        ([0, 0, 2, 2, 2, 2], r"folds of \[2, 0, 4\]"),
        ([0, 1, 0], "got 6, 6 and 3"),
    ],
)
def test_folds_that_cannot_be_solved_are_refused(parts: list[int], message: str) -> None:
    x, y = clouds(16, 6)
    with pytest.raises(InputError, match=message):
        cross_validate(reduce(x), y, CLASSES, np.array(parts))


def test_photos_that_stay_together_err_together() -> None:
    """Four copies of each photo, told as such, are no surer than one of each."""
    x, y = clouds(16)
    count = len(y)
    one = cross_validate(reduce(x), y, CLASSES, folds(count), [1e-2]).best
    single = (x, y, folds(count), np.arange(count))
    x, y, parts, bunches = (np.repeat(each, 4, axis=0) for each in single)
    found = cross_validate(reduce(x), y, CLASSES, parts, [1e-2], bunches=bunches).best
    fooled = cross_validate(reduce(x), y, CLASSES, parts, [1e-2]).best
    for name in ("accuracy_error", "loss_error"):
        assert getattr(found, name) == pytest.approx(getattr(one, name), rel=0.02)
        assert getattr(fooled, name) == pytest.approx(getattr(one, name) / 2, rel=0.02)
    assert found.accuracy == fooled.accuracy
