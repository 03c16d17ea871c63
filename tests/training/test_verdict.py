from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.verdict import Answers, Truth, Verdict, estimated, in_reach

LABELS = np.arange(60) % 3
TRUTH = Truth(LABELS, np.arange(60), None)
ALL = np.arange(60)


def logits(strength: float, noise: float, seed: int = 0) -> Array:
    """Return logits (60, 3) that speak for the labels, more or less."""
    random = np.random.default_rng(seed).normal(0, noise, (60, 3))
    return np.asarray(strength * np.eye(3)[LABELS] + random, np.float32)


GOOD, BAD = (Answers.of(TRUTH, ALL, logits(3, noise)) for noise in (1.0, 3.0))


def test_answers_are_as_sure_as_they_are_right() -> None:
    doubled = Answers.of(TRUTH, ALL, 2 * logits(3, 3.0))
    assert doubled.temperature == pytest.approx(2 * BAD.temperature, rel=1e-3)
    np.testing.assert_allclose(doubled.losses, BAD.losses, rtol=1e-3)
    assert doubled.accuracy == BAD.accuracy == BAD.right.mean()
    assert BAD.log_loss == pytest.approx(BAD.losses.mean())


def test_class_weights_weigh_the_losses() -> None:
    weighed = Answers.of(replace(TRUTH, weights=np.array([1, 0, 0], np.float32)), ALL, logits(3, 3))
    assert weighed.log_loss == pytest.approx(weighed.losses[LABELS == 0].mean())


def test_the_better_pays_and_the_worse_does_not() -> None:
    better, worse, same = (Verdict.of(*pair) for pair in ((GOOD, BAD), (BAD, GOOD), (GOOD, GOOD)))
    assert better.pays
    assert better.gain == pytest.approx(BAD.log_loss - GOOD.log_loss)
    assert not worse.pays
    assert worse.gain == pytest.approx(-better.gain)
    assert not same.pays
    assert (same.gain, same.error, same.more) == (0, 0, 0)


def test_a_gain_within_its_error_or_fewer_right_answers_do_not_pay() -> None:
    verdict = Verdict.of(GOOD, BAD)
    assert not replace(verdict, error=1.01 * verdict.gain).pays
    assert not replace(verdict, more=-0.01).pays
    assert not replace(verdict, gain=1e-4, error=1e-5).pays


def test_photos_that_stay_together_err_together() -> None:
    pairs = replace(TRUTH, bunches=np.arange(60) // 2)
    good, bad = (Answers.of(pairs, ALL, logits(3, noise)) for noise in (1.0, 3.0))
    together, alone = Verdict.of(good, bad), Verdict.of(GOOD, BAD)
    assert together.gain == pytest.approx(alone.gain)
    assert together.error != pytest.approx(alone.error, rel=1e-3)


def test_who_is_worse_than_nothing_or_the_best_by_more_than_luck_is_out_of_reach() -> None:
    def verdict(gain: float, error: float) -> Verdict:
        return Verdict(GOOD, gain, error, 0.0)

    given = [verdict(0.5, 0.1), verdict(0.3, 0.1), verdict(0.2, 0.1), verdict(-0.2, 0.1)]
    assert in_reach(given) == [True, True, False, False]
    assert in_reach([verdict(-0.2, 0.1), verdict(-0.1, 0.2)]) == [False, True]
    assert in_reach([]) == []


def test_the_estimate_is_that_of_the_answers() -> None:
    found = estimated(BAD, 5, 1e-3, 9, "from stage2")
    p = BAD.accuracy
    assert (found.accuracy, found.log_loss) == (p, BAD.log_loss)
    assert found.accuracy_error == pytest.approx((p * (1 - p) / 60) ** 0.5)
    assert found.log_loss_error == pytest.approx(BAD.losses.std() / 60**0.5)
    assert (found.photos, found.folds, found.decay, found.tried) == (60, 5, 1e-3, 9)
    assert found.deeper == "from stage2"
