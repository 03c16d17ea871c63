from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer.errors import InputError
from pyflux_transfer.training import runs
from pyflux_transfer.training.trials import NONE_KEPT, Trial, Trials

TRIAL = Trial(
    np.array([3, 1]),
    {0.5: np.float32([[1, 2], [3, 4]]), 1.0: np.ones((2, 2), "f4")},
    {0.5: np.float32([0.5, 0.25]), 1.0: np.float32([1, 0])},
)


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    Trials.of(tmp_path, resume=False).write("a", TRIAL)
    trials = Trials.of(tmp_path, resume=True)
    found = trials.read("a")
    assert found
    np.testing.assert_array_equal(found.photos, TRIAL.photos)
    assert found.photos.dtype == np.int64
    assert found.logits.keys() == {0.5, 1.0}
    for kept, logits in found.logits.items():
        np.testing.assert_array_equal(logits, TRIAL.logits[kept])
    for kept, scores in found.belonging.items():
        np.testing.assert_array_equal(scores, TRIAL.belonging[kept])
    assert found.belonging.keys() == {0.5, 1.0}
    assert trials.read("b") is None


def test_without_a_folder_nothing_is_kept() -> None:
    NONE_KEPT.write("a", TRIAL)
    assert NONE_KEPT.read("a") is None
    assert Trials.of(None, resume=False) == NONE_KEPT


def test_another_run_is_not_mixed_in(tmp_path: Path) -> None:
    Trials.of(tmp_path, resume=False).write("a", TRIAL)
    with pytest.raises(InputError, match="holds a run already"):
        Trials.of(tmp_path, resume=False)
    (tmp_path / runs.FILE).touch()
    with pytest.raises(InputError, match="holds a run by steps"):
        Trials.of(tmp_path, resume=True)
