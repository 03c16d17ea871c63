"""Whether a loaded model may serve: what a request will meet is tried once, before one does."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.data.preprocess import load_pixels, normalise
from pyflux_transfer.errors import BundleError
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.serving.model import Model

MAX_SIDE = 2048  # of what the network sees: the shared memory holds a queue of them
SUM_TOLERANCE = 1e-3


def check_side(preprocessing: Preprocessing) -> None:
    """Refuse images too large to queue; all else is checked where a bundle is read."""
    if preprocessing.crop > MAX_SIDE:
        raise BundleError(
            f"The bundle's preprocessing.crop is {preprocessing.crop}; the service takes at most "
            f"{MAX_SIDE}."
        )


def warm_up(model: Model, size: int) -> float:
    """Answer one image, then a full batch twice, as requests do; return the last's seconds.

    Raises BundleError for images too large to queue, and for answers that are no probabilities.
    """
    preprocessing = model.description.preprocessing
    check_side(preprocessing)
    image = _read_probe(preprocessing)
    for count in (1, size):
        _answer(model, np.stack([image] * count))
    started = time.monotonic()
    _answer(model, np.stack([image] * size))
    return time.monotonic() - started


def check_probabilities(found: Any, count: int, classes: int) -> None:
    """Refuse what are not `count` rows of finite probabilities that sum to 1."""
    if np.shape(found) != (count, classes):
        raise BundleError(f"The answer has shape {np.shape(found)}, not {(count, classes)}.")
    if not np.isfinite(found).all():
        raise BundleError("The probabilities are not finite.")
    if (np.asarray(found) < 0).any() or (abs(np.sum(found, axis=1) - 1) > SUM_TOLERANCE).any():
        raise BundleError("The probabilities do not sum to 1.")


def _read_probe(preprocessing: Preprocessing) -> Pixels:
    """Decode a picture with transparency, as one is uploaded: all of the preprocessing is used."""
    grid = np.indices((64, 96)).sum(axis=0).astype(np.uint8)
    pixels = np.stack([grid, 255 - grid, 2 * grid, 128 + grid // 2], axis=-1)
    return load_pixels(pixels, preprocessing)


def _answer(model: Model, images: Pixels) -> None:
    found = model.predict(normalise(images, model.description.preprocessing))
    check_probabilities(found, len(images), len(model.description.classes))
