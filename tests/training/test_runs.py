from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyflux_transfer.bundle import write_tensors
from pyflux_transfer.errors import BundleError, InputError
from pyflux_transfer.training import runs
from pyflux_transfer.training.callbacks import Record
from pyflux_transfer.training.runs import Snapshot

SETTING: dict[str, Any] = {
    "options": {"batch_size": 4, "class_weights": {"ants": 1.0}},
    "phases": [{"cut": 6, "epochs": 4}, {"cut": 3, "epochs": 2}],
    "engine": "torch",
}


def snapshot() -> Snapshot:
    rng = np.random.default_rng(0)

    def state(*names: str) -> dict[str, Any]:
        return {name: rng.standard_normal((2, 3), dtype=np.float32) for name in names}

    return Snapshot(
        SETTING,
        (Record(1, 1, 0.1 + 0.2, 0.5, 2 / 3, 1e-3, 0.25), Record(1, 2, 0.3, None, None, 1e-5, 1.0)),
        state("fc.weight", "layer4.0.bn1.running_var"),
        state("fc.weight"),
        {"step": np.asarray(7, np.float32), **state("exp_avg/fc.weight")},
    )


def test_a_snapshot_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    one = snapshot()
    runs.write(tmp_path / "run", one)
    back = runs.read(tmp_path / "run", SETTING)
    assert back is not None
    assert back.records == one.records
    assert back.setting == one.setting
    for part in ("tail", "best", "optimizer"):
        old, new = getattr(one, part), getattr(back, part)
        assert set(old) == set(new)
        for name, value in old.items():
            np.testing.assert_array_equal(value, new[name])
            assert value.shape == new[name].shape


def test_a_folder_without_a_run_is_none(tmp_path: Path) -> None:
    assert runs.read(tmp_path / "run", SETTING) is None
    runs.refuse_existing(tmp_path / "run")


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    runs.write(tmp_path, snapshot())
    with pytest.raises(InputError, match=r"holds a run already.*--resume"):
        runs.refuse_existing(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"engine": "flux"}, "made with engine='torch', now it is 'flux'"),
        (
            {"options": {"batch_size": 8, "class_weights": {"ants": 1.0}}},
            "made with options batch_size=4, now it is 8",
        ),
        (
            {"options": {"batch_size": 4, "class_weights": None}},
            "made with options class_weights ants=1.0, now it is None",
        ),
        (
            {"phases": [{"cut": 6, "epochs": 9}, {"cut": 3, "epochs": 2}]},
            "made with phases 1 epochs=4, now it is 9",
        ),
        ({"phases": [{"cut": 6, "epochs": 4}]}, "made with phases 2 cut=3, now it is None"),
    ],
)
def test_another_setting_is_refused_with_its_first_difference(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    runs.write(tmp_path, snapshot())
    with pytest.raises(InputError) as refusal:
        runs.read(tmp_path, {**SETTING, **changes})
    assert says in str(refusal.value)
    assert "{" not in str(refusal.value)


def test_a_setting_is_compared_as_it_is_kept(tmp_path: Path) -> None:
    runs.write(tmp_path, replace(snapshot(), setting={"cut": (1, 2)}))
    assert runs.read(tmp_path, {"cut": (1, 2)}) is not None


def test_other_files_are_told(tmp_path: Path) -> None:
    write_tensors(tmp_path / runs.FILE, {"a": np.zeros(1, np.float32)}, {"other": "file"})
    with pytest.raises(InputError, match="no run of this program"):
        runs.read(tmp_path, SETTING)
    (tmp_path / runs.FILE).write_bytes(b"nonsense")
    with pytest.raises(BundleError, match="not a readable"):
        runs.read(tmp_path, SETTING)


def test_a_run_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.write(tmp_path, snapshot())
    monkeypatch.setattr(runs, "FORMAT", 2)
    with pytest.raises(InputError, match="another version"):
        runs.read(tmp_path, SETTING)
