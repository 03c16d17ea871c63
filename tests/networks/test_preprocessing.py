from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.preprocessing import FITS, Fit, Preprocessing


@pytest.mark.parametrize(
    ("resize", "crop", "size", "becomes"),
    [(256, 224, 384, 439), (256, 224, 224, 256), (232, 224, 288, 298), (224, 224, 96, 96)],
)
def test_another_size_keeps_the_published_proportion(
    resize: int, crop: int, size: int, becomes: int
) -> None:
    found = Preprocessing(resize, crop, interpolation="bicubic").sized(size)
    assert found == Preprocessing(becomes, size, interpolation="bicubic")


def test_what_is_not_asked_for_stays() -> None:
    one = Preprocessing(fit="pad")
    assert one.sized() == one
    assert one.sized(fit="crop") == Preprocessing()
    assert one.sized(np.int64(320)).crop == 320


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "384", 3585])
def test_sizes_that_cannot_be_are_refused(size: Any) -> None:
    with pytest.raises(InputError, match="size must be a whole number from 1 to 3584, got"):
        Preprocessing().sized(size)
    assert Preprocessing().sized(3584).resize == 4096


@pytest.mark.parametrize("fit", ["", "pda", 3])
def test_fits_that_are_none_are_refused(fit: Any) -> None:
    with pytest.raises(InputError, match="Unknown fit"):
        Preprocessing().sized(fit=fit)


@pytest.mark.parametrize("fit", FITS)
def test_it_comes_back_from_plain_data(fit: Fit) -> None:
    one = Preprocessing(fit=fit)
    assert Preprocessing.from_json(one.to_json()) == one
    assert ("fit" in one.to_json()) == (fit != "crop")
