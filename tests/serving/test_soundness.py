"""What a reload must refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyflux_transfer import bundle as bundles
from pyflux_transfer.errors import BundleError
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.serving.model import Description, open_bundle
from pyflux_transfer.serving.soundness import check_probabilities, warm_up
from tests.serving import loaders
from tests.serving.test_bundle import make_bundle

GOOD = Description("id", "fake", "numpy", loaders.CLASSES, loaders.PLAIN)


def fake(**row: Any) -> loaders.Fake:
    return loaders.Fake(replace(GOOD, **row), Path("none"), 0.0, 1)


def test_a_sound_model_is_warmed_up() -> None:
    assert warm_up(fake(), 2) >= 0
    assert warm_up(fake(preprocessing=Preprocessing(resize=9, crop=8)), 2) >= 0


def test_images_too_large_to_queue_are_refused() -> None:
    with pytest.raises(BundleError, match=r"preprocessing\.crop is 2049"):
        warm_up(fake(preprocessing=Preprocessing(resize=2049, crop=2049)), 1)


@pytest.mark.parametrize(
    "rows",
    [[[np.nan, 1, 0]], [[np.inf, 0, 0]], [[0.5, 0.2, 0.1]], [[1.5, -0.5, 0]], [[1, 0]], [1, 0, 0]],
)
def test_what_are_no_probabilities_is_refused(rows: Any) -> None:
    with pytest.raises(BundleError):
        check_probabilities(np.array(rows, np.float32), 1, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float) -> None:
    path = make_bundle(tmp_path / "a.safetensors")
    bundle = bundles.read(path)
    # An infinite variance would divide the infinity away: no probability shows it.
    bundle.state["bn1.running_var"][3] = value
    bundles.write(path, bundle)
    with pytest.raises(BundleError, match=r"bn1\.running_var"):
        open_bundle(path, {"engine": "torch", "device": "cpu", "precision": "fp32"}, print)
