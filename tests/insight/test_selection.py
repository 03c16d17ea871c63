from __future__ import annotations

import numpy as np

from pyflux_transfer.insight.selection import doubts, select

NOTHING = np.empty((0, 2), np.float32)
EAST, NORTH, WEST = (1, 0), (0, 1), (-1, 0)


def rows(*values: tuple[float, ...]) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(values, np.float32)


def test_doubt_is_one_less_the_margin() -> None:
    found = doubts(rows((0.5, 0.3, 0.2), (1, 0, 0), (0.5, 0.5, 0)))
    np.testing.assert_allclose(found, [0.8, 0, 1], atol=1e-6)


def test_the_most_doubtful_comes_first_and_its_copy_last() -> None:
    p = rows((0.5, 0.5), (0.51, 0.49), (0.6, 0.4))
    assert select(p, rows(EAST, EAST, NORTH), NOTHING, 3).tolist() == [0, 2, 1]


def test_what_is_known_already_is_passed_over() -> None:
    p = rows((0.5, 0.5), (0.6, 0.4), (0.7, 0.3))
    assert select(p, rows(EAST, NORTH, WEST), rows(EAST), 2).tolist() == [2, 1]


def test_no_more_are_chosen_than_there_are_and_none_twice() -> None:
    p = rows((1, 0), (1, 0), (1, 0))
    assert sorted(select(p, rows(EAST, EAST, EAST), NOTHING, 9).tolist()) == [0, 1, 2]


def test_what_is_none_of_the_classes_comes_last() -> None:
    p = np.array([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4], [0.99, 0.01]], np.float32)
    units = np.eye(4, dtype=np.float32)
    none = units[:0]
    assert select(p, units, none, 4).tolist() == [0, 2, 1, 3]
    sure = np.array([False, True, True, True])
    assert select(p, units, none, 4, sure).tolist() == [2, 1, 3, 0]
