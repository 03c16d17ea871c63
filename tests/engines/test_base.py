"""What every engine refuses, and what it lets through."""

from __future__ import annotations

import numpy as np
import pytest

from pyflux_transfer.engines.base import check_features, check_rates
from pyflux_transfer.errors import InputError


def test_large_numbers_are_numbers() -> None:
    check_features(np.full((2, 3), 1e25, np.float32))
    for bad in (np.inf, np.nan):
        with pytest.raises(InputError, match="NaN or infinite"):
            check_features(np.array([[1e25, bad]], np.float32))


def test_rates() -> None:
    check_rates({"head": 0.0, "stem": 0.1, "more": float("nan")}, ("stem", "head"))
    with pytest.raises(InputError, match="stem"):
        check_rates({"head": 0.1}, ("stem", "head"))
    for bad in (float("nan"), float("inf"), -1.0):
        with pytest.raises(InputError, match="'head' must be a finite number from 0"):
            check_rates({"head": bad}, ("head",))
