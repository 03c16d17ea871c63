"""Both engines find the same model in the same photos, without a single option."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import photos
from tests.engines.test_parity import note
from tests.engines.torch_side import ask, followed

pytestmark = pytest.mark.flux


def test_the_recipe_finds_the_same_in_both_engines(tmp_path: Path) -> None:
    folder = photos.write(tmp_path / "photos", {"blue": 8, "green": 7, "red": 6}, side=64)
    for label, other in (("blue", "green"), ("green", "red"), ("red", "blue")):  # not too easy
        misnamed = Image.fromarray(photos.photo(other, seed=99, side=64))
        misnamed.save(folder / label / "misnamed.png")
    theirs, ours = ask("recipe", tmp_path / "t.npz", folder=str(folder)), followed("flux", folder)
    for name, value in theirs.items():
        worst = float(np.abs(ours[name] - value).max())
        note(f"recipe {name}", worst)
        assert worst < 1e-3, name
