from __future__ import annotations

import numpy as np

from pyflux_transfer.insight.copies import nearest, unit
from pyflux_transfer.insight.outliers import distances, unusual


def test_a_photo_in_the_wrong_class_is_an_outlier_there_and_one_like_none_is_strange() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 5, (3, 32))
    labels = np.repeat([0, 1, 2], 30)
    rows = centres[labels] + rng.normal(0, 1, (90, 32))
    rows[4] = centres[2] + rng.normal(0, 1, 32)
    rows[70] = rng.normal(0, 5, 32)
    found = distances(unit(rows.astype(np.float32)), labels)
    assert set(found.outliers[:2]) == {4, 70}
    assert not found.strange[4]
    assert found.strange[70]
    units = unit(rows.astype(np.float32))
    again = distances(units, labels, nearest(units, units, 17)[1])
    np.testing.assert_allclose(again.all, found.all, atol=1e-3)


def test_of_few_photos_nothing_is_said() -> None:
    rows = unit(np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32))
    found = distances(rows, np.zeros(6, np.int64))
    assert not found.own.any()
    assert not found.strange.any()


def test_what_is_unusual_is_told_in_robust_deviations() -> None:
    values = np.array([1, 2, 3, 4, 5, 1000.0])
    found = unusual(values)
    np.testing.assert_allclose(found[:5], (values[:5] - 3.5) / (1.4826 * 1.5))
    assert found[5] > 400
