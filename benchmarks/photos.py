"""Photos to measure with, made here: nothing is downloaded.

Parts of two real photos (scikit-learn's samples) at any size, with colours varied, an insect drawn
on each, and grain, so that a JPEG takes about as many bits a pixel as a camera's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance

CLASSES = ("ants", "bees")
GRAIN = 7.0  # standard deviation, in levels of 255
TILE = 1024
QUALITY = 90
# As in the tutorial's data set: 244 images to train, 153 to validate, about 500 × 375 pixels.
TRAIN, VALID = 244, 153
SMALL = (0.12, 0.25)
LARGE = (1.0, 12.0)


def write(folder: Path, count: int, megapixels: tuple[float, float], seed: int = 0) -> list[Path]:
    """Write `count` JPEGs of both classes in turn, `folder/class/number.jpg`; return their paths.

    The sizes are spread evenly on a logarithmic scale.
    """
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    job = partial(_write, folder, megapixels, seed)
    with ThreadPoolExecutor(2) as pool:  # Pillow and NumPy give up the lock
        return list(pool.map(job, range(count)))


def write_splits(folder: Path, train: int = TRAIN, valid: int = VALID, seed: int = 0) -> Path:
    """Write small photos as `folder/train/class/…` and `folder/val/class/…`; return the folder."""
    write(folder / "train", train, SMALL, seed)
    write(folder / "val", valid, SMALL, seed + 1)
    return folder


def _write(folder: Path, megapixels: tuple[float, float], seed: int, index: int) -> Path:
    rng = np.random.default_rng([seed, index])
    name = CLASSES[index % 2]
    path = folder / name / f"{index:05}.jpg"
    _photo(rng, name, math.exp(rng.uniform(*np.log(megapixels)))).save(path, quality=QUALITY)
    return path


def _photo(rng: np.random.Generator, name: str, megapixels: float) -> Image.Image:
    ratio = float(rng.choice([4 / 3, 3 / 4, 3 / 2]))
    height = math.sqrt(megapixels * 1e6 / ratio)
    image = _part(rng, (round(height * ratio), round(height)))
    for _ in range(int(rng.integers(2, 6))):
        image = _with_insect(rng, image, name)
    return _with_grain(rng, image)


def _part(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Cut a random part out of a sample photo, vary its colours, and enlarge it."""
    source = _sources()[int(rng.integers(2))]
    width = rng.uniform(0.4, 1) * min(source.width, source.height * size[0] / size[1])
    height = width * size[1] / size[0]
    x, y = rng.uniform(0, source.width - width), rng.uniform(0, source.height - height)
    image = source.crop((int(x), int(y), int(x + width), int(y + height)))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(0.7, 1.3))
    return image.resize(size, Image.Resampling.BILINEAR)


def _with_insect(rng: np.random.Generator, image: Image.Image, name: str) -> Image.Image:
    """Draw at four times the size of a cell, turn it, and lay it somewhere on the image."""
    side = int(rng.uniform(0.4, 0.7) * min(image.size))
    cell = Image.new("RGBA", (400, 400))
    (_ant if name == "ants" else _bee)(ImageDraw.Draw(cell), rng)
    cell = cell.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR).resize((side, side))
    place = (int(rng.integers(image.width - side)), int(rng.integers(image.height - side)))
    image.paste(cell, place, cell)
    return image


def _ant(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    color = tuple(int(c) for c in rng.integers((30, 10, 5), (110, 60, 40)))
    for x in (160, 200, 240):
        draw.line([(x - 30, 90), (x, 200), (x - 30, 310)], fill=color, width=8)
    for box in ((60, 160, 160, 240), (150, 175, 240, 225), (230, 165, 310, 235)):
        draw.ellipse(box, fill=color)


def _bee(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    color = tuple(int(c) for c in rng.integers((150, 110, 10), (250, 190, 80)))
    draw.ellipse((150, 60, 250, 190), fill=(230, 230, 240, 150))
    draw.ellipse((150, 210, 250, 340), fill=(230, 230, 240, 150))
    draw.ellipse((70, 140, 330, 260), fill=color)
    for x in range(110, 300, 55):
        draw.rectangle((x, 150, x + 22, 250), fill=(25, 20, 15))


def _with_grain(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    x, y = (int(n) for n in rng.integers(TILE, size=2))
    grain = _grain().crop((x, y, x + image.width, y + image.height))
    return ImageChops.add(image, grain, offset=-128)


@cache
def _grain() -> Image.Image:
    """Noise around 128, larger than any photo: a tile repeated."""
    noise = np.random.default_rng(0).normal(128, GRAIN, (TILE, TILE, 3)).round().astype(np.uint8)
    return Image.fromarray(np.tile(noise, (6, 6, 1)))


@cache
def _sources() -> Sequence[Image.Image]:
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(pixels) for pixels in load_sample_images().images]
