from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pyflux_transfer.data.preprocess import prepare
from pyflux_transfer.engines.onnx.layers import Writer
from pyflux_transfer.export.pictures import picture
from pyflux_transfer.export.pixels import IMAGE, write_pixels
from pyflux_transfer.export.running import Exported
from pyflux_transfer.networks.preprocessing import FITS, IMAGENET, Preprocessing

# wide, tall, tiny, exact, of an odd size, smaller and larger than what is shown
SIZES = [(48, 64), (64, 48), (32, 32), (40, 40), (1, 1), (3, 2), (31, 33), (20, 400), (400, 20),
         (301, 203), (33, 32), (95, 61)]  # fmt: skip


def prepared(how: Preprocessing, folder: Path) -> Exported:
    to = Writer({})
    to.rename(write_pixels(to, how), "images")
    taken = (IMAGE, np.uint8, ("height", "width", 3))
    model = to.model(taken, [("images", np.float32, (1, 3, how.crop, how.crop))], {}, "")
    path = folder / "pixels.onnx"
    path.write_bytes(model.SerializeToString())
    return Exported(path)


def levels(found: NDArray[np.float32], how: Preprocessing) -> NDArray[np.float32]:
    """Return differences in levels of 255."""
    return np.abs(found) * 255 * np.asarray(how.std, np.float32)[:, None, None]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_graph_prepares_photos_as_pillow_does(
    fit: str, interpolation: str, tmp_path: Path
) -> None:
    how = replace(
        IMAGENET, resize=40, crop=32, fit=fit, interpolation=interpolation, background=(255, 0, 77)
    )
    graph = prepared(how, tmp_path)
    for seed, (high, wide) in enumerate(SIZES):
        pixels = picture(high, wide, seed)
        found, expected = graph(pixels)[0], prepare(pixels, how)
        assert found.shape == expected.shape
        difference = levels(found - expected, how)
        assert difference.max() < 2.01, (high, wide)  # two roundings
        assert (difference > 0.5).mean() < 0.05, (high, wide)  # where halves are many


def test_a_photo_of_the_size_that_is_shown_is_taken_as_it_is(tmp_path: Path) -> None:
    how = replace(IMAGENET, resize=32, crop=32)
    pixels = picture(32, 32)
    np.testing.assert_array_equal(prepared(how, tmp_path)(pixels)[0], prepare(pixels, how))
