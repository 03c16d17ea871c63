"""Faults to be found: labels exchanged, and altered copies."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Labels = NDArray[np.int64]
Alter = Callable[[Image.Image, np.random.Generator], Image.Image]


def exchanged(labels: Labels, share: float, rng: np.random.Generator) -> Labels:
    """Return labels of which a share is another class, any of them alike."""
    classes, wrong = int(labels.max()) + 1, labels.copy()
    for place in rng.permutation(len(labels))[: round(share * len(labels))]:
        wrong[place] = (labels[place] + rng.integers(1, classes)) % classes
    return wrong


def resized(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share = rng.uniform(0.5, 0.8)
    size = (max(8, int(image.width * share)), max(8, int(image.height * share)))
    return image.resize(size, Image.Resampling.BICUBIC)


def recompressed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(rng.integers(25, 60)))
    return Image.open(stream).convert("RGB")


def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    left, top, right, bottom = rng.uniform(0, 0.08, 4)
    width, height = image.size
    box = (left * width, top * height, width - right * width, height - bottom * height)
    return image.crop(tuple(int(edge) for edge in box))  # type: ignore[arg-type]


def mirrored(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    del rng
    return ImageOps.mirror(image)


def brighter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    low, high = ((0.6, 0.8), (1.2, 1.4))[int(rng.integers(2))]
    return ImageEnhance.Brightness(image).enhance(float(rng.uniform(low, high)))


def several(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    if rng.random() < 0.5:
        image = mirrored(image, rng)
    return recompressed(resized(cropped(image, rng), rng), rng)


ALTERATIONS: dict[str, Alter] = {
    "resized": resized,
    "recompressed": recompressed,
    "cropped": cropped,
    "mirrored": mirrored,
    "brighter or darker": brighter,
    "cropped, resized, recompressed": several,
}
