"""Random augmentation by name; each transform is pure: (image, rng) → image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.data.preprocess import field, fitted, normalise, shown
from pyflux_transfer.errors import lookup
from pyflux_transfer.networks.preprocessing import Preprocessing

Array = NDArray[np.float32]
Transform = Callable[[Image.Image, np.random.Generator], Image.Image]
Augment = Callable[[Pixels, np.random.Generator], Array]

CROP_AREA = (0.35, 1.0)  # share of the image
CROP_RATIO = (3 / 4, 4 / 3)  # width to height
ROTATION_DEGREES = 15.0
COLOR_RANGE = (0.7, 1.3)


def _fit(preprocessing: Preprocessing) -> Transform:
    return lambda image, _: fitted(image, preprocessing)


def _crop(preprocessing: Preprocessing) -> Transform:
    """Make the random resized crop of Szegedy et al. 2014: any part, any ratio, one size.

    Its part is one of what the fit shows: of the photo, of the padded square, or of the stretched
    one, in which ratios are measured.
    """

    def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        within = (0.0, 0.0, float(image.width), float(image.height))
        left, top, right, bottom = field(within, preprocessing)
        width, height = right - left, bottom - top
        across = down = 1.0
        if preprocessing.fit == "stretch":
            side = max(width, height)
            across, down, width, height = width / side, height / side, side, side
        area = width * height * rng.uniform(*CROP_AREA)
        ratio = np.exp(rng.uniform(*np.log(CROP_RATIO)))
        w, h = min(width, (area * ratio) ** 0.5), min(height, (area / ratio) ** 0.5)
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        box = (
            left + across * x,
            top + down * y,
            left + across * min(x + w, width),
            top + down * min(y + h, height),
        )
        return shown(image, box, preprocessing, within)

    return crop


def _rotation(preprocessing: Preprocessing) -> Transform:
    fill = tuple(round(255 * mean) for mean in preprocessing.mean)  # 0 after normalising

    def rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        angle = rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES)
        return image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=fill)

    return rotate


def _flip(_: Preprocessing) -> Transform:
    def flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        turn = rng.random() < 0.5
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turn else image

    return flip


def _color(_: Preprocessing) -> Transform:
    def jitter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(rng.uniform(*COLOR_RANGE))
        return image

    return jitter


# Applied in this order, whatever the order asked for; `crop` takes the place of the fit.
AUGMENTS: dict[str, Callable[[Preprocessing], Transform]] = {
    "crop": _crop,
    "rotation": _rotation,
    "flip": _flip,
    "color": _color,
}

SETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "light": ("crop", "flip"),
    "strong": ("crop", "rotation", "flip", "color"),
}


def names(spec: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the transforms a spec means, in the order they are applied.

    A spec is None, the name of a set ("light"), or names, as "flip,crop" or a list. Raises
    InputError naming the nearest known name.
    """
    words = spec.split(",") if isinstance(spec, str) else list(spec or ())
    chosen: set[str] = set()
    for word in filter(None, map(str.strip, words)):
        known = {name: (name,) for name in AUGMENTS} | SETS
        chosen.update(lookup(known, word, "augmentation"))
    return tuple(name for name in AUGMENTS if name in chosen)


def augmenter(spec: str | Sequence[str] | None, preprocessing: Preprocessing) -> Augment | None:
    """Return a function (image (H,W,3) uint8, rng) → (3,crop,crop) float32, normalised.

    None where the spec means no augmentation (see `names`). The result depends on the image and
    on the generator's state alone. Raises InputError for an unknown name.
    """
    chosen = names(spec)
    if not chosen:
        return None
    transforms = [AUGMENTS[name](preprocessing) for name in chosen]
    if "crop" not in chosen:
        transforms.insert(0, _fit(preprocessing))
    return partial(_augment, transforms, preprocessing)


def _augment(
    transforms: list[Transform],
    preprocessing: Preprocessing,
    image: Pixels,
    rng: np.random.Generator,
) -> Array:
    picture = Image.fromarray(image)
    for transform in transforms:
        picture = transform(picture, rng)
    return normalise(np.asarray(picture), preprocessing)
