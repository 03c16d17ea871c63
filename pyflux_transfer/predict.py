"""Prediction: from a bundle and photos to labels. The command line and the service share it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from glob import glob
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np

from pyflux_transfer import engines
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.dataset import Skipped
from pyflux_transfer.data.decode import MAX_PIXELS, Source
from pyflux_transfer.data.listing import Labelled, files, is_table, list_photos
from pyflux_transfer.data.preprocess import load_picture, prepared
from pyflux_transfer.data.tabular.contents import content
from pyflux_transfer.data.tabular.rows import Table, Tabular
from pyflux_transfer.data.walk import cause
from pyflux_transfer.engines.base import Network, Plan, Precision
from pyflux_transfer.engines.choice import Asked, choose
from pyflux_transfer.errors import EngineError, ImageError, InputError, readable, shortened
from pyflux_transfer.insight.belonging import Belonging, reach
from pyflux_transfer.insight.heatmap import needs_gradient
from pyflux_transfer.networks.outline import outline
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import Array, State
from pyflux_transfer.networks.units import resolve_cut

Photos = Source | Table | Tabular | Iterable[Source]
SURE = {True: "sure", False: "unsure: it is unlike the photos that were learnt"}
DIGITS = 6  # of a probability; what is beyond may differ between machines


@dataclass(frozen=True)
class Prediction:
    """The label of one image, its probability, and the `top` labels with theirs.

    `belonging` (0–1) tells how much the image is like those that were learnt, whatever it is
    called; below the threshold it is not `sure`. Both are None where the model cannot tell.
    """

    name: str
    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    belonging: float | None = None
    sure: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the HTTP answer and `--json` show; of belonging, what is known."""
        known = {} if self.sure is None else {"belonging": self.belonging, "sure": self.sure}
        return {
            "name": self.name,
            "label": self.label,
            "probability": self.probability,
            **known,
            "top": [{"label": label, "probability": p} for label, p in self.top],
        }

    def _repr_html_(self) -> str:
        return _answer_html(self)


def _answer_html(answer: Prediction) -> str:
    rows = "".join(
        f"<tr><td>{escape(label)}</td><td><meter min='0' max='1' value='{p}'></meter></td>"
        f"<td>{100 * p:.1f} %</td></tr>"
        for label, p in answer.top
    )
    told = ""
    if answer.sure is not None:
        told = f" – {SURE[answer.sure]} (belonging {answer.belonging:.2f})"
    return f"<table><caption>{escape(answer.name)}{told}</caption>{rows}</table>"


def engine_for(
    bundle: Bundle, engine: str = "auto", device: str = "auto", precision: str = "auto",
    *, photos: int | None = None, maps: bool = False,
) -> tuple[str, str]:  # fmt: skip
    """Return the engine that answers a bundle's photos, and one line saying why.

    As `engines.choice.choose` says; `maps` are heat maps.
    """
    if engine != "auto" or bundle.own:
        return engines.choose(engine)
    side, units = bundle.preprocessing.crop, Plan(bundle.row, bundle.head).units
    shape = (1, 3, side, side)
    (whole,) = outline(bundle.architecture, units, 0, shape, 0)
    gradients = maps and needs_gradient(units, shape)
    name, costs = bundle.architecture, whole.mult_adds or 0
    return choose(Asked(name, costs, device, precision, photos, gradients))


def restore(
    bundle: Bundle, engine: str = "auto", device: str = "auto", precision: Precision = "auto",
    *, photos: int | None = None,
) -> Network:  # fmt: skip
    """Build the bundle's network with its weights, cut at the head: ready to predict.

    `photos` is how many will come, where that is known.
    """
    name, _ = engines.choose(engine)
    plan = Plan(bundle.row, bundle.head, None, precision, device, photos)  # type: ignore[arg-type]
    network = engines.build(name, plan)
    network.load_state(_unwritable(bundle.state) if name == "onnx" else bundle.state)
    network.cut_at(resolve_cut(network.units, "head"))
    return network


def _unwritable(state: State) -> State:
    """Return views that cannot be written: what takes them need not copy the weights."""
    views = {name: value.view() for name, value in state.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


def probabilities(network: Network, images: Array, temperature: float = 1.0) -> Array:
    """Return softmax probabilities (N, classes) of preprocessed images (N, 3, H, W) float32.

    Logits are divided by the temperature first, which alters how sure they are and no label. Raises
    EngineError for logits that are no numbers: they never become a probability.
    """
    return softmax(finite_logits(network, images), temperature)


def finite_logits(network: Network, images: Array) -> Array:
    """Return the logits of preprocessed images. Raises EngineError where one is not finite."""
    return _finite(network.logits(network.embed(images)))


def answers(
    network: Network, images: Array, belonging: Belonging | None = None
) -> tuple[Array, Array | None]:
    """Return the logits (N, classes) of preprocessed images, and how much they belong (N,).

    One pass through the network serves both. Raises EngineError as `finite_logits` does.
    """
    x = network.embed(images)
    logits = _finite(network.logits(x))
    return logits, None if belonging is None else belonging.score(at_head(network, x), logits)


def at_head(network: Network, x: Array) -> Array:
    """Return what comes to the head, of what `embed` returned."""
    head = resolve_cut(network.units, "head")
    return network.apply(x, network.cut, head) if network.cut < head else x


def _finite(logits: Array) -> Array:
    if not np.isfinite(logits).all():
        raise EngineError(
            "The network's outputs are not finite. Images given as float32 must be preprocessed; "
            "else try precision fp32."
        )
    return logits


def softmax(logits: Array, temperature: float = 1.0) -> Array:
    """Return exp(x / T) / Σ exp(x / T) of each row, computed without overflow."""
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / np.float32(temperature))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def rank(
    names: Sequence[str],
    probabilities: Array,
    classes: Sequence[str],
    top: int = 3,
    scores: Array | None = None,
    threshold: float = 0.0,
) -> list[Prediction]:
    """Return one Prediction a row, its labels by falling probability; ties keep the class order.

    `scores` (N,) are of belonging, and below the threshold an image is not sure.
    """
    if top < 1:
        raise InputError(f"top must be at least 1, got {top}.")
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    rows = []
    for name, row, best in zip(names, probabilities, order, strict=True):
        ranked = tuple((classes[i], round(float(row[i]), DIGITS)) for i in best)
        rows.append(Prediction(name, *ranked[0], ranked))
    return rows if scores is None else judged(rows, scores, threshold)


def judged(rows: Sequence[Prediction], scores: Array, threshold: float) -> list[Prediction]:
    """Return predictions that tell how much their images belong, by scores (N,)."""
    sure = reach(scores, threshold)
    return [
        replace(row, belonging=round(float(score), DIGITS), sure=bool(known))
        for row, score, known in zip(rows, scores, sure, strict=True)
    ]


def sources(given: Photos) -> list[tuple[str, Source]]:
    """Name what was given, image by image.

    That is a path, a folder's files, a pattern such as `photos/*.jpg`, bytes, an open binary file,
    a Pillow image, an array, an iterable of these, or a table (see `data.listing.list_source`); an
    array (H, W, 3) is one image, (N, H, W, 3) are N. Raises InputError for a path where nothing is.
    """
    if is_table(given):
        return [(readable(name), photo) for name, photo in list_photos(cast(Labelled, given))]
    if isinstance(given, (str, Path)):
        return [(readable(path), path) for path in _paths(given)]
    if hasattr(given, "__array__") and not isinstance(given, np.ndarray) and not _is_one(given):
        given = np.asarray(given)
    if isinstance(given, np.ndarray) and given.dtype.kind in "OSU":
        given = given.ravel().tolist()
    if isinstance(given, np.ndarray) and given.ndim == 4:
        return [(f"image {i}", image) for i, image in enumerate(given)]
    if isinstance(given, Mapping):  # as Hugging Face keeps an image
        given = content(given)
    if _is_one(given) or not isinstance(given, Iterable):
        return [("image", given)]  # type: ignore[list-item]
    named = [pair for item in given for pair in sources(item)]  # type: ignore[arg-type]
    return [
        (n if isinstance(s, (str, Path)) else f"image {i}", s) for i, (n, s) in enumerate(named)
    ]


def _is_one(given: object) -> bool:
    """Tell whether something is one image: of these kinds some can be gone through, too."""
    kinds = (bytes, bytearray, memoryview, np.ndarray)
    return isinstance(given, kinds) or hasattr(given, "read") or hasattr(given, "getbands")


def _paths(given: str | Path) -> list[Path]:
    """Return the files that a path, a folder or a pattern names."""
    path = Path(given)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        found = sorted(map(Path, glob(str(given), recursive=True)))  # noqa: PTH207
        if not found and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise InputError(f"No such file: '{shortened(path)}'.") from None
        if not found:
            raise InputError(f"'{shortened(path)}' cannot be read: {cause(error)}.") from error
        return [inner for path in found for inner in ([path] if path.is_file() else _paths(path))]
    if not stat.S_ISDIR(mode):
        return [path]
    if not (inside := files(path)):
        raise InputError(f"The folder '{path}' holds no file.")
    return inside


def predict(
    network: Network,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    given: Photos,
    *,
    top: int = 3,
    batch_size: int = 16,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    temperature: float = 1.0,
    belonging: Belonging | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[Prediction | Skipped]:
    """Yield a Prediction for each image in order, or Skipped with the reason it is unreadable.

    `given` is as in `sources`, or preprocessed images (N, 3, H, W) float32. Decoding runs in
    `workers` threads ahead of the network. `temperature` and `belonging` are the bundle's. `note`
    is told of images that are used although their file lacks its end.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    if isinstance(given, np.ndarray) and given.dtype == np.float32 and given.ndim == 4:
        for start in range(0, len(given), batch_size):
            images = np.ascontiguousarray(given[start : start + batch_size])
            names = [f"image {start + i}" for i in range(len(images))]
            yield from _ranked(network, classes, names, images, top, temperature, belonging)
        return

    def read(item: tuple[str, Source]) -> tuple[str, Array | ImageError]:
        try:
            picture = load_picture(item[1], preprocessing, max_pixels=max_pixels)
            if picture.mended:
                note(f"'{item[0]}' lacks only its end and is used")
            return item[0], prepared(picture, preprocessing)
        except ImageError as error:
            return item[0], error

    batch: list[tuple[str, Array | ImageError]] = []
    named = sources(given)
    with closing(map_ahead(read, named, workers=workers, ahead=2 * batch_size)) as decoded:
        for count, item in enumerate(decoded, start=1):
            batch.append(item)
            if len(batch) == batch_size or count == len(named):
                yield from _answer(network, classes, batch, top, temperature, belonging)
                batch = []


def _answer(
    network: Network,
    classes: Sequence[str],
    batch: list[tuple[str, Array | ImageError]],
    top: int,
    temperature: float,
    belonging: Belonging | None,
) -> Iterator[Prediction | Skipped]:
    """Answer a batch in order; unreadable images take no place in the computation."""
    good = [(name, image) for name, image in batch if isinstance(image, np.ndarray)]
    ranked: Iterator[Prediction] = iter(())
    if good:
        images = np.stack([image for _, image in good])
        names = [name for name, _ in good]
        ranked = iter(_ranked(network, classes, names, images, top, temperature, belonging))
    for name, image in batch:
        yield Skipped(Path(name), str(image)) if isinstance(image, ImageError) else next(ranked)


def _ranked(
    network: Network,
    classes: Sequence[str],
    names: Sequence[str],
    images: Array,
    top: int,
    temperature: float,
    belonging: Belonging | None,
) -> list[Prediction]:
    """Answer preprocessed images."""
    logits, scores = answers(network, images, belonging)
    threshold = belonging.threshold if belonging else 0.0
    return rank(names, softmax(logits, temperature), classes, top, scores, threshold)
