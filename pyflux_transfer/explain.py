"""Explanation: from a model and photos to what in them speaks for an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.dataset import Skipped
from pyflux_transfer.data.decode import MAX_PIXELS, Pixels, Source
from pyflux_transfer.data.overlay import data_uri, overlay, png, small_jpeg
from pyflux_transfer.data.preprocess import load_pixels, normalise
from pyflux_transfer.engines.base import Labels, Network, traced
from pyflux_transfer.errors import ImageError, InputError
from pyflux_transfer.insight.belonging import Belonging
from pyflux_transfer.insight.heatmap import heat_maps, last_map, method, scaled
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.predict import Photos, Prediction, rank, softmax, sources
from pyflux_transfer.storage import replacing


@dataclass(frozen=True)
class Explanation:
    """An answer and what in the photo speaks for a class, by default that of the answer.

    `heat` (h,w) float32 goes from 0 to 1, `pixels` (crop,crop,3) uint8 are what the network saw.
    `method` names how the heat was found.
    """

    prediction: Prediction
    label: str
    method: str
    heat: Array
    pixels: Pixels

    @property
    def overlay(self) -> Pixels:
        """The heat laid over the photo: (crop,crop,3) uint8."""
        return overlay(self.pixels, self.heat)

    def save(self, path: str | Path) -> Path:
        """Write the overlay as a PNG file and return its path. Raises StorageError."""
        target = Path(path)
        if target.suffix.lower() != ".png":
            raise InputError(f"An overlay's name must end in .png, got '{path}'.")
        with replacing(target) as temporary:
            temporary.write_bytes(png(self.overlay))
        return target

    def _repr_html_(self) -> str:
        uri = data_uri(small_jpeg(self.overlay, 224), "jpeg")
        return f'<img src="{uri}" alt="{self.method}">{self.prediction._repr_html_()}'


def explained(
    network: Network,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    named: Sequence[tuple[str, Pixels]],
    *,
    label: str | None = None,
    top: int = 3,
    temperature: float = 1.0,
    belonging: Belonging | None = None,
) -> list[Explanation]:
    """Explain images of what `load_pixels` gave; one pass through the network serves both."""
    if label is not None and label not in classes:
        raise InputError(f"Unknown class {label!r}. The classes are {', '.join(classes)}.")
    pixels = np.stack([image for _, image in named])
    images = normalise(pixels, preprocessing)
    at = last_map(network.units, images.shape, traced(network, images.shape))
    x = network.apply(images, 0, at)
    head, scores, threshold = resolve_cut(network.units, "head"), None, 0.0
    if belonging is None:
        logits = network.apply(x, at, len(network.units))
    else:
        features = network.apply(x, at, head)
        logits = network.apply(features, head, len(network.units))
        scores, threshold = belonging.score(features, logits), belonging.threshold
    found = softmax(logits, temperature)
    chosen = found.argmax(axis=1) if label is None else np.full(len(x), classes.index(label))
    maps = scaled(heat_maps(network, x, chosen.astype(np.int64), at))
    answers = rank([name for name, _ in named], found, classes, top, scores, threshold)
    way = method(network.units, at)
    return [
        Explanation(answer, classes[int(k)], way, heat, image)
        for answer, k, heat, image in zip(answers, chosen, maps, pixels, strict=True)
    ]


def heats_of(
    network: Network, preprocessing: Preprocessing, pixels: Pixels, labels: Labels
) -> Array:
    """Return what in images of what `load_pixels` gave speaks for classes: (N,h,w), 0 to 1."""
    images = normalise(pixels, preprocessing)
    at = last_map(network.units, images.shape, traced(network, images.shape))
    x = network.apply(images, 0, at)
    return scaled(heat_maps(network, x, labels.astype(np.int64), at))


def explain(
    network: Network,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    given: Photos,
    *,
    label: str | None = None,
    top: int = 3,
    batch_size: int = 16,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    temperature: float = 1.0,
    belonging: Belonging | None = None,
) -> Iterator[Explanation | Skipped]:
    """Yield an Explanation for each image in order, or Skipped with its reason.

    `given` is as in `predict.sources`; `label` is the class that is explained, by default each
    image's own answer. The rest is as in `predict.predict`.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")

    def read(item: tuple[str, Source]) -> tuple[str, Pixels | ImageError]:
        try:
            return item[0], load_pixels(item[1], preprocessing, max_pixels=max_pixels)
        except ImageError as error:
            return item[0], error

    named = sources(given)
    batch: list[tuple[str, Pixels | ImageError]] = []
    with closing(map_ahead(read, named, workers=workers, ahead=2 * batch_size)) as decoded:
        for count, item in enumerate(decoded, start=1):
            batch.append(item)
            if len(batch) < batch_size and count < len(named):
                continue
            good = [(name, image) for name, image in batch if isinstance(image, np.ndarray)]
            made = iter(
                explained(
                    network, classes, preprocessing, good, label=label, top=top,
                    temperature=temperature, belonging=belonging,
                )
                if good
                else []
            )  # fmt: skip
            for name, image in batch:
                bad = isinstance(image, ImageError)
                yield Skipped(Path(name), str(image)) if bad else next(made)
            batch = []
