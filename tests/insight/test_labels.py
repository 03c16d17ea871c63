from __future__ import annotations

import numpy as np
import pytest

from pyflux_transfer.insight.copies import nearest, unit
from pyflux_transfer.insight.labels import ASKED, agreed, doubt, thresholds, votes


def test_thresholds_are_the_mean_probability_of_a_class_for_itself() -> None:
    p = np.array([[0.9, 0.1, 0], [0.5, 0.5, 0], [0.2, 0.8, 0]], np.float32)
    found = thresholds(p, np.array([0, 0, 1]))
    np.testing.assert_allclose(found, [0.7, 0.8, np.inf], atol=1e-6)


def test_a_label_is_doubted_where_another_class_reaches_its_threshold() -> None:
    """As Northcutt et al. count: rows 3 and 5 are confidently of another class, 6 is not."""
    p = np.array(
        [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.05, 0.95],
         [0.2, 0.8], [0.98, 0.02], [0.55, 0.45]], np.float32,
    )  # fmt: skip
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    found = doubt(p, labels)
    # Thresholds: (.9 + .8 + .7 + .05) / 4 = .61 and (.8 + .02 + .45) / 3 = .42
    assert found.wrong.tolist() == [False, False, False, True, False, True, False]
    assert found.ranked().tolist() == [5, 3]
    assert found.suggested[[3, 5]].tolist() == [1, 0]


def test_exchanged_labels_come_first() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(4, size=400)
    logits = rng.normal(size=(400, 4)) + 5 * np.eye(4)[true]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = true.copy()
    given[:20] = (true[:20] + 1) % 4
    found = doubt(p.astype(np.float32), given)
    assert len(set(np.argsort(-found.score)[:20]) & set(range(20))) >= 18
    assert (found.suggested[:20] == true[:20]).mean() > 0.9


@pytest.mark.parametrize("count", [1, 3])
def test_probabilities_of_nothing_and_a_class_without_photos_are_no_trouble(count: int) -> None:
    p = np.tile(np.array([[1, 0, 0]], np.float32), (count, 1))
    found = doubt(p, np.ones(count, np.int64))
    assert np.isfinite(found.score).all()
    assert not found.wrong.any()  # class 0 has no photos, so nobody knows what is usual in it


def test_the_nearest_vote_but_for_those_that_stay_together() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 12)
    rows = rng.normal(size=(24, 16)) + 4 * np.eye(16)[labels]
    rows[1], labels[:2] = rows[0], 1  # two copies of class 0, both labelled wrongly
    units = unit(rows.astype(np.float32))
    near = nearest(units, units, ASKED)
    apart = np.arange(24)
    found = votes(labels, 3, near, np.where(apart == 1, 0, apart))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[0].argmax() == found[1].argmax() == 0
    assert (found[12:].argmax(axis=1) == 1).all()
    assert found[0, 1] < votes(labels, 3, near, apart)[0, 1]
    assert found[:, 2].min() > 0
    alone = votes(labels, 3, near, np.zeros(24, np.int64))
    np.testing.assert_allclose(alone, 1 / 3)


def test_votes_have_a_part_in_probabilities() -> None:
    p, voted = np.array([[0.6, 0.4], [1, 0.0]], np.float32), np.array([[0.1, 0.9], [0.5, 0.5]])
    found = agreed(p, voted)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[0, 1] > 0.5
    assert found[1, 0] > 0.99
    np.testing.assert_allclose(agreed(p, np.full((2, 2), 0.5)).argmax(axis=1), [0, 0])
