from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflux_transfer.errors import InputError
from pyflux_transfer.training.schedule import SCHEDULES, cosine, one_cycle, rates, step

BODY = ("stage3", "stage4", "head")


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0, 1, exclude_max=True))
def test_factors_lie_between_0_and_1(name: str, t: float) -> None:
    assert 0 <= SCHEDULES[name](t) <= 1 + 1e-12


@given(st.sampled_from(["cosine", "one-cycle"]), st.floats(0, 0.999))
def test_smooth_schedules_do_not_jump(name: str, t: float) -> None:
    assert SCHEDULES[name](t + 1e-3) == pytest.approx(SCHEDULES[name](t), abs=1.01e-2)


def test_cosine_warms_up_and_ends_at_0() -> None:
    assert cosine(0) == 0
    assert cosine(0.05) == pytest.approx(0.5)
    assert cosine(0.1) == 1
    assert cosine(0.55) == pytest.approx(0.5)
    assert cosine(1) == pytest.approx(0, abs=1e-12)


def test_step_divides_by_ten_after_each_third() -> None:
    assert [step(t) for t in (0, 0.3, 0.34, 0.6, 0.67, 0.99)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_one_cycle_has_the_shape_of_pytorchs() -> None:
    """div_factor=25, final_div_factor=1e4, pct_start=0.3, cosine annealing."""
    low, end = 1 / 25, 1 / 25e4
    assert one_cycle(0) == pytest.approx(low)
    assert one_cycle(0.15) == pytest.approx((1 + low) / 2)
    assert one_cycle(0.3) == pytest.approx(1)
    assert one_cycle(0.65) == pytest.approx((1 + end) / 2)
    assert one_cycle(1) == pytest.approx(end)


def test_each_stage_down_from_the_head_is_slower() -> None:
    rate = rates("constant", 0.1, 0.5, BODY, 10)
    assert rate(0) == rate(9) == pytest.approx({"stage3": 0.025, "stage4": 0.05, "head": 0.1})


def test_a_step_stands_for_the_middle_of_its_interval() -> None:
    rate = rates("cosine", 1.0, 1.0, ["head"], 4)
    got = [rate(i)["head"] for i in range(4)]
    assert got == pytest.approx([cosine(t) for t in (0.125, 0.375, 0.625, 0.875)])
    assert all(0 < value < 1 and math.isfinite(value) for value in got)


def test_an_unknown_schedule_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'one-cycle'"):
        rates("onecycle", 1.0, 1.0, ["head"], 1)
