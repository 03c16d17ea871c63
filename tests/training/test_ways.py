from __future__ import annotations

import pytest

from pyflux_transfer.training.ways import QUALITIES, Way
from tests.engines import fake


@pytest.mark.parametrize(
    ("part", "stage"), [(1 / 4, "stage2"), (1 / 2, "stage2"), (3 / 4, "stage1"), (1, "stem")]
)
def test_a_way_trains_a_part_of_the_stages(part: float, stage: str) -> None:
    units = fake.TINY.units
    assert Way(part, 1e-3).stage(units) == stage
    assert Way(part, 1e-3).name(units) == f"from {stage}"
    assert Way(part, 1e-3, "crop").name(units) == f"from {stage}, crop"
    assert Way(part, 1e-3, times=4).name(units) == f"from {stage}, 4 times as long"


def test_more_is_tried_the_better_it_shall_be() -> None:
    assert not QUALITIES["head"]
    assert set(QUALITIES["good"]) < set(QUALITIES["best"])
