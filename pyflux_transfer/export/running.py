"""Exported files in ONNX Runtime, and how near their answers are to the bundle's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from pyflux_transfer.bundle import Bundle
from pyflux_transfer.data.decode import MAX_PIXELS, Pixels, Source, decode
from pyflux_transfer.data.preprocess import load, prepare
from pyflux_transfer.engines.base import Network
from pyflux_transfer.errors import ExportError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.predict import probabilities

LARGEST = 2e-2  # difference of a probability that an export may have
TIE = 5e-3  # two classes that we tell no further apart may change their places
MOST = 500  # photos to compare by
Named = Sequence[tuple[str, Source]]
_SECONDS, _RUNS = 2.0, 20  # of timing, the first that is reached


class Exported:
    """An exported file, ready to answer on the CPU."""

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        """Read a file; `threads` 0 takes all processors."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (given,) = self._session.get_inputs()
        self.name: str = given.name
        self.takes_pixels = len(given.shape) == 3
        self.facts: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, given: Any) -> Array:
        """Return the probabilities (N, classes) of what the file takes."""
        answers: list[Array] = self._session.run(None, {self.name: given})
        return answers[0]


@dataclass(frozen=True)
class Photo:
    """A photo to compare by: its pixels, and the path or bytes where it has some."""

    name: str
    pixels: Pixels
    source: Source | None = None


@dataclass(frozen=True)
class Comparison:
    """How an exported file answers beside the bundle: the largest differences of a probability.

    `from_files` is that to what `predict` says of the same photos' files, where large JPEGs are
    decoded at a fraction of their size; None where no file was given. `ours_s` and `theirs_s` are
    the seconds that one photo takes from pixels to probabilities.
    """

    photos: int
    difference: float
    from_files: float | None
    ours_s: float
    theirs_s: float


def read(named: Iterable[tuple[str, Source]], bundle: Bundle, max_pixels: int = MAX_PIXELS
         ) -> Iterator[Photo]:  # fmt: skip
    """Decode photos at their full size. Raises ImageError for one that cannot be read."""
    background = bundle.preprocessing.background
    for name, source in named:
        pixels = decode(source, max_pixels=max_pixels, background=background)
        yield Photo(name, pixels, source if isinstance(source, (str, Path, bytes)) else None)


def compare(
    exported: Exported, network: Network, bundle: Bundle, photos: Iterable[Photo],
    max_pixels: int = MAX_PIXELS,
) -> Comparison:  # fmt: skip
    """Compare the answers photo by photo.

    Raises ExportError where a probability differs by more than `LARGEST`, or another class is the
    first and we tell the two apart.
    """
    how, largest, from_files, count = bundle.preprocessing, 0.0, None, 0
    first: Pixels | None = None

    def ours(image: Array) -> Array:
        return np.asarray(probabilities(network, image[None], bundle.temperature)[0])

    for photo in photos:
        image = prepare(photo.pixels, how)
        expected = ours(image)
        found = exported(photo.pixels if exported.takes_pixels else image[None])[0]
        difference = float(np.abs(found - expected).max())
        _check(photo.name, bundle, expected, found, difference)
        largest, count = max(largest, difference), count + 1
        first = photo.pixels if first is None else first
        if photo.source is not None:
            told = ours(load(photo.source, how, max_pixels=max_pixels))
            from_files = max(from_files or 0.0, float(np.abs(found - told).max()))
    if first is None:
        raise ExportError("There was no photo to compare by. Give at least one.")
    pixels = first
    return Comparison(
        count, largest, from_files,
        seconds(lambda: ours(prepare(pixels, how))),
        seconds(lambda: exported(answerable(exported, pixels, bundle))),
    )  # fmt: skip


def thinned(named: Named, most: int) -> Named:
    """Return so many photos at most, spread over all."""
    places = np.linspace(0, len(named) - 1, min(len(named), most)).round().astype(int)
    return [named[place] for place in places]


def answerable(exported: Exported, pixels: Pixels, bundle: Bundle) -> Any:
    """Return what a file takes of a photo."""
    return pixels if exported.takes_pixels else prepare(pixels, bundle.preprocessing)[None]


def _check(name: str, bundle: Bundle, expected: Array, found: Array, difference: float) -> None:
    ours, theirs = int(expected.argmax()), int(found.argmax())
    if not difference <= LARGEST:  # NaN, too
        raise ExportError(
            f"The exported file differs by {difference:.3g} in a probability of '{name}', more "
            f"than {LARGEST:g}. Nothing was written; please report it with the bundle's "
            f"architecture, {bundle.architecture}."
        )
    if expected[ours] - expected[theirs] > TIE:
        raise ExportError(
            f"The exported file calls '{name}' {bundle.classes[theirs]!r}, the bundle "
            f"{bundle.classes[ours]!r}. Nothing was written; please report it with the bundle's "
            f"architecture, {bundle.architecture}."
        )


def seconds(run: Callable[[], object]) -> float:
    """Return the median time of a call, after one that is not counted."""
    run()
    times: list[float] = []
    while len(times) < _RUNS and sum(times) < _SECONDS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
