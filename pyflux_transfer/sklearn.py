"""Estimators for scikit-learn: a classifier of photos, and their features for other estimators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.dataset import Dataset, Sample, Skipped, examine
from pyflux_transfer.data.entries import Content, Entry, Listing
from pyflux_transfer.data.tabular.contents import content
from pyflux_transfer.errors import ImageError, InputError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.predict import softmax
from pyflux_transfer.training.callbacks import Silent, Timer
from pyflux_transfer.training.examples import Maker
from pyflux_transfer.training.features import Cache, Features
from pyflux_transfer.training.options import Options

try:
    from scipy.sparse import issparse
    from sklearn.base import (
        BaseEstimator,
        ClassifierMixin,
        ClassNamePrefixFeaturesOutMixin,
        TransformerMixin,
    )
    from sklearn.utils import assert_all_finite, check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d
except ImportError:
    raise InputError(
        "The estimators need scikit-learn. Install it: pip install 'pyflux-transfer[sklearn]'."
    ) from None

WORKERS = 2
Entries = list[Entry]


class PhotosError(InputError, ValueError):
    """What was given cannot be used; a ValueError, as scikit-learn has it."""


class _OfPhotos(BaseEstimator):  # type: ignore[misc]
    """What both estimators know of photos: X is a list or array of them, in any form."""

    def _entries(self, X: Any, *, reset: bool) -> Entries:  # noqa: ARG002, N803
        """Return photos as entries; `reset` says that X is what the estimator learns from."""
        entries = []
        for i, photo in enumerate(_listed(X)):
            try:
                held = content(photo)
            except ImageError as error:
                raise PhotosError(f"X[{i}] is no photo: {error}") from None
            name, inside = (held, None) if isinstance(held, Path) else (Path(f"X[{i}]"), held)
            entries.append(Entry(name, "", content=_content(inside)))
        return entries

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that X holds photos: three or four dimensions, or text."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def _load(self) -> Classifier:
        with _as_value_error():
            return load(
                self.arch, weights=self.weights, engine=self.engine, device=self.device,
                precision=self.precision, size=self.size, fit=self.fit_mode,
            )  # fmt: skip

    def _features(self, model: Classifier, entries: Entries) -> Features:
        """Return what the units before the network's cut make of photos, kept or computed."""
        options = Options(batch_size=self.batch_size)
        # What cannot be decoded is told when it is wanted: features that are kept need no image.
        one = partial(examine, label=0, max_pixels=options.max_pixels, known_good=_Any())
        found = list(map_ahead(one, entries, workers=WORKERS, ahead=4 * WORKERS))
        for sample in found:
            if isinstance(sample, Skipped):
                raise PhotosError(f"'{sample.path}' cannot be read: {sample.reason}")
        samples = tuple(sample for sample in found if isinstance(sample, Sample))
        maker = Maker(
            model.network, model.preprocessing, options, Cache.of(self.cache), Timer(), Silent(),
            told=False,
        )  # fmt: skip
        with _as_value_error():
            return maker.plain(Dataset(samples, ()))


class TransferClassifier(ClassifierMixin, _OfPhotos):  # type: ignore[misc]
    """A pretrained network whose head, and where it pays deeper stages, learn from photos.

    `X` is a list or array of paths, of encoded bytes or of Pillow images, or an array of images
    (N,H,W), (N,H,W,3) or (N,H,W,4) uint8; `y` holds labels of any type. Without `cut`, `epochs`,
    `lr` and `augment` the recipe is followed, as by `Classifier.fit`, whose words `quality`,
    `minutes`, `cut`, `epochs`, `lr`, `augment` and `max_skipped` are; `hidden` and `dropout` are
    those of `with_head`; `arch`, `weights`, `size`, `engine`, `device` and `precision` those of
    `load`, and `fit_mode` its `fit`. `class_weight` is None, "balanced" or {label: weight}. With
    `cache` features are kept, so that a search passes each photo through a frozen trunk once.
    `random_state=None` means 0: the same photos give the same model.

    After `fit`: `classes_`, `model_` (a `Classifier`: `model_.save("bees.safetensors")`) and
    `run_` (a `Run`, with its cross-validated `estimate`).
    """

    def __init__(
        self,
        arch: str | Path = "resnet50",
        *,
        weights: str | Path | None = "imagenet",
        quality: str = "good",
        minutes: float | None = None,
        cut: int | str | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        augment: str | Sequence[str] | None = None,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        class_weight: str | Mapping[Any, float] | None = None,
        size: int | None = None,
        fit_mode: str | None = None,
        engine: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 32,
        cache: bool | Cache = True,
        max_skipped: float = 0.0,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.arch = arch
        self.weights = weights
        self.quality = quality
        self.minutes = minutes
        self.cut = cut
        self.epochs = epochs
        self.lr = lr
        self.augment = augment
        self.hidden = hidden
        self.dropout = dropout
        self.class_weight = class_weight
        self.size = size
        self.fit_mode = fit_mode
        self.engine = engine
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.cache = cache
        self.max_skipped = max_skipped
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> TransferClassifier:  # noqa: N803
        """Learn from photos and their labels. Raises ValueError for what cannot be learnt from."""
        if y is None:
            raise PhotosError(
                "TransferClassifier requires y to be passed, but the target y is None."
            )
        entries = self._entries(X, reset=True)
        labels = column_or_1d(y, warn=True)
        check_consistent_length(entries, labels)
        if labels.dtype.kind == "f":
            assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        names = [str(label) for label in self.classes_]
        if len(names) < 2:
            raise PhotosError(f"y has 1 class only ({names[0]}), at least two are needed.")
        seed = _seed(self.random_state)
        named = [Entry(e.path, names[i], content=e.content)
                 for e, i in zip(entries, numbers, strict=True)]  # fmt: skip
        model = self._load()
        with _as_value_error():
            model = model.with_head(
                names, hidden=tuple(self.hidden), dropout=self.dropout, seed=seed
            )
            self.run_ = model.fit(
                Listing({"train": named}), cut=self.cut, epochs=self.epochs, lr=self.lr,
                cache=self.cache, watcher=_Lines() if self.verbose else None, seed=seed,
                class_weights=_weights(self.class_weight), batch_size=self.batch_size,
                max_skipped=self.max_skipped, **self._effort(),
            )  # fmt: skip
        self.model_ = model
        return self

    def _effort(self) -> dict[str, Any]:
        """Return what belongs to the recipe or, where an option of steps is given, to these."""
        if self.augment is not None:
            return {"augment": self.augment}
        if (self.cut, self.epochs, self.lr) != (None, None, None):
            return {}
        return {"quality": self.quality, "minutes": self.minutes}

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the probabilities (N,classes) of photos, in the order of `classes_`."""
        check_is_fitted(self)
        entries, model = self._entries(X, reset=False), self.model_
        found = self._features(model, entries)
        rows = np.arange(found.count)
        logits = [
            model.network.logits(found.take(rows[start : start + self.batch_size]))
            for start in range(0, found.count, self.batch_size)
        ]
        return softmax(np.concatenate(logits), model.temperature)

    def predict(self, X: Any) -> np.ndarray[Any, Any]:  # noqa: N803
        """Return the most probable label of each photo (N,), of the type of `y`."""
        shares = self.predict_proba(X)
        return np.asarray(self.classes_[shares.argmax(axis=1)])


class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _OfPhotos):  # type: ignore[misc]
    """What a pretrained network's trunk makes of photos: (N,D) float32, for any estimator.

    `X` is as in `TransferClassifier`. `cut` is the unit or stage before which the trunk ends; of a
    map the mean over its places is given. Nothing is learnt. After `fit`: `model_`.
    """

    def __init__(
        self,
        arch: str | Path = "resnet50",
        *,
        weights: str | Path | None = "imagenet",
        cut: int | str = "head",
        size: int | None = None,
        fit_mode: str | None = None,
        engine: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 32,
        cache: bool | Cache = True,
    ) -> None:
        self.arch = arch
        self.weights = weights
        self.cut = cut
        self.size = size
        self.fit_mode = fit_mode
        self.engine = engine
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.cache = cache

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that features are float32 whatever X is."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:  # noqa: ARG002, N803
        """Load the network; photos are looked at, but nothing is learnt from them."""
        self._entries(X, reset=True)
        model = self._load()
        with _as_value_error():
            model.network.cut_at(resolve_cut(model.network.units, self.cut))
        side = model.preprocessing.crop
        shape = model.network.trace((1, 3, side, side))[model.network.cut - 1].output
        self._n_features_out = shape[1] if len(shape) == 4 else int(np.prod(shape[1:]))
        self.model_ = model
        return self

    def transform(self, X: Any) -> Array:  # noqa: N803
        """Return the features (N,D) float32 of photos."""
        check_is_fitted(self)
        found = self._features(self.model_, self._entries(X, reset=False))
        blocks = []
        for start in range(0, found.count, self.batch_size):
            block = found.take(np.arange(start, min(start + self.batch_size, found.count)))
            blocks.append(block.mean(axis=(2, 3)) if block.ndim == 4 else block)
        return np.concatenate([block.reshape(len(block), -1) for block in blocks])


class _Any:
    """Contains everything."""

    def __contains__(self, _: object) -> bool:
        return True


class _Lines(Silent):
    """Prints what a run tells."""

    def line(self, text: str) -> None:
        """Print the line."""
        print(text)


def _listed(given: Any) -> Sequence[Any]:
    """Return photos one by one; refuse numbers that are no pixels."""
    if isinstance(given, (str, Path, bytes)):
        raise PhotosError(f"X must be a list or array of photos, got the one {given!r}.")
    if issparse(given):
        raise PhotosError("X is sparse, which photos never are: sparse input is not supported.")
    array = np.asarray(given) if hasattr(given, "__array__") else None
    if array is not None and array.dtype.kind in "OUST":
        column = array.ndim == 2 and array.shape[1] == 1  # one of a frame
        given = array.ravel().tolist() if column or array.ndim == 1 else array
    if array is not None and array.ndim not in (3, 4) and not isinstance(given, list):
        raise PhotosError(
            "X must hold photos: paths, images, or an array (N,H,W) or (N,H,W,3) of uint8, got "
            f"{array.dtype} {array.shape}. Reshape your data: X.reshape(-1, height, width)."
        )
    photos = list(given)
    if not photos:
        raise PhotosError("X is empty, while a minimum of 1 photo is required.")
    return photos


def _content(held: Content | Path | None) -> Content | None:
    return None if isinstance(held, Path) else held


def _seed(random_state: Any) -> int:
    if random_state is None or isinstance(random_state, (int, np.integer)):
        return int(random_state or 0)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _weights(given: Any) -> Any:
    """Return weights as `Options` has them."""
    if isinstance(given, Mapping):
        return {str(label): weight for label, weight in given.items()}
    return "auto" if given == "balanced" else given


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Raise errors of input as scikit-learn expects them."""
    try:
        yield
    except InputError as error:
        raise PhotosError(str(error)) from error
