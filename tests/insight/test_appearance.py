from __future__ import annotations

import numpy as np
import pytest

from pyflux_transfer.insight.appearance import RULES, faults

USUAL = {"contrast": 0.2, "brightness": 0.5, "sharpness": 0.4, "shorter": 300.0}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("blank", 0.001), ("tiny", 20), ("blurred", 0.003), ("dark", 0.03), ("bright", 0.97)],
)
def test_what_is_bad_and_unusual_is_told(kind: str, value: float) -> None:
    measure = RULES[kind].measure
    measures = {name: np.full(9, usual) for name, usual in USUAL.items()}
    measures[measure][4] = value
    assert {name: found.tolist() for name, found in faults(measures).items() if len(found)} == {
        kind: [4]
    }
    measures[measure][:] = value  # all are so: then it is what the set is like
    assert not any(len(found) for found in faults(measures).values())


def test_the_worst_comes_first_and_blank_ones_are_told_once() -> None:
    measures = {name: np.full(9, usual) for name, usual in USUAL.items()}
    measures["shorter"][[2, 6]] = 30, 10
    measures["contrast"][3], measures["brightness"][3], measures["sharpness"][3] = 0, 1, 0
    found = faults(measures)
    assert found["tiny"].tolist() == [6, 2]
    assert found["blank"].tolist() == [3]
    assert not len(found["bright"])
    assert not len(found["blurred"])
