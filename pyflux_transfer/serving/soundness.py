"""Whether a loaded model may serve: what a request will meet is tried once, before one does."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.data.preprocess import load_pixels, normalise
from pyflux_transfer.errors import BundleError
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.serving.model import Description, Model

MAX_SIDE = 2048  # of what the network sees: the shared memory holds a queue of them
MAX_CLASSES = 100_000
MAX_NAME = 1000
SUM_TOLERANCE = 1e-3


def check_description(description: Description) -> None:
    """Refuse class names and preprocessing that no request could be answered with.

    Raises BundleError that names the field, its value and the rule.
    """
    names, how = description.classes, description.preprocessing
    if not 0 < len(names) <= MAX_CLASSES:
        raise _wrong("classes", len(names), f"1 to {MAX_CLASSES} names")
    for name in names:
        if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME and _encodable(name)):
            raise _wrong("classes", name, f"texts of 1 to {MAX_NAME} characters")
    if len(set(names)) != len(names):
        raise _wrong("classes", "the same name twice", "distinct names")
    for field, fits, rule in _RULES:
        if not fits(getattr(how, field)):
            raise _wrong(f"preprocessing.{field}", getattr(how, field), rule)


def warm_up(model: Model, size: int) -> float:
    """Answer one image, then a full batch twice, as requests do; return the last's seconds.

    Raises BundleError for a description no request could be answered with, and for answers that
    are no probabilities.
    """
    description = model.description
    check_description(description)
    image = _read_probe(description.preprocessing)
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


def _wrong(field: str, value: object, rule: str) -> BundleError:
    return BundleError(f"The bundle's {field} is {str(value)[:80]!r}; it must be {rule}.")


def _encodable(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _side(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_SIDE


def _three(kinds: tuple[type, ...], low: float, high: float) -> Any:
    def fits(value: object) -> bool:
        return (
            isinstance(value, tuple)
            and len(value) == 3
            and all(type(v) in kinds and low <= v <= high for v in value)
        )

    return fits


# field → (what fits, the rule in words); comparisons with NaN are false
_RULES = (
    ("crop", _side, f"a whole number from 1 to {MAX_SIDE}"),
    ("resize", _side, f"a whole number from 1 to {MAX_SIDE}"),
    ("mean", _three((int, float), -1e6, 1e6), "three finite numbers"),
    ("std", _three((int, float), 1e-6, 1e6), "three finite positive numbers"),
    ("background", _three((int,), 0, 255), "three whole numbers from 0 to 255"),
)
