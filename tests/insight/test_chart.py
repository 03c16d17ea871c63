from __future__ import annotations

import pytest

from pyflux_transfer.insight.chart import Line, chart, steps


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (3, 3, [3, 3.2, 3.4, 3.6, 3.8, 4]),
        (1, 7, [0, 2, 4, 6, 8]),
    ],
)
def test_steps_are_round_and_hold_the_range(low: float, high: float, expected: list[float]) -> None:
    assert steps(low, high) == pytest.approx(expected)


def test_points_lie_where_their_ticks_are() -> None:
    made = chart("t", "told", "x", "y", [Line("a", [(0, 0), (1, 1), (0.5, float("nan"))], True)])
    (line,) = made.lines
    assert line.marks[0] == (made.x_ticks[0].at, made.y_ticks[0].at) == (made.left, made.bottom)
    assert line.marks[1] == (made.x_ticks[-1].at, made.y_ticks[-1].at) == (made.right, made.top)
    assert len(line.marks) == 2
