"""Belonging: how much a photo is like those that were learnt, whatever their classes.

Photos of the known classes vary along some directions of the features, others along other ones
too: the cosine of the angle between a photo's features, standardised, and those directions is 1
where it lies among them. And the classifier is surer of what it knows: the odds of the likeliest
class (Hendrycks & Gimpel 2017). The score adds both, each in deviations from what is usual for
photos held out, of which no more than two speak for a photo: being surer than usual does not make
up for being unlike. Source: ViM (Wang, Li, Feng & Zhang 2022), whose residual is not relative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.networks.tensors import Array

DIRECTIONS = 64  # at most: with more of them the measured splits gain nothing
PART = 0.8  # at most, of the directions in which the photos differ at all
KEPT = 0.95  # of photos of the known classes, by default
LEVELS = 101  # scores that are remembered, of equally many photos between each two
MOST = 4096  # photos are enough to find directions and threshold
_RARE = 1e-4  # of the mean variance, added to all: what hardly varies is not blown up
_EXACT = 256  # rows or columns up to which eigenvectors cost next to nothing
_BESIDE, _ROUNDS = 16, 6  # columns beside the wanted, and rounds, of an iteration
_NEGLIGIBLE = 1e-10  # of the largest second moment
_LEAST = 1e-3  # deviation: less may be rounding
SPREAD = 4  # deviations, of the sum, by which the odds of the score change e-fold
TENSORS = ("mean", "scale", "directions")

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)  # arrays do not compare as one
class Space:
    """Where the features of the learnt photos lie: mean, scale (D,) and directions (K,D) float32.

    The directions are orthonormal, of the features less the mean, divided by the scale.
    """

    mean: Array
    scale: Array
    directions: Array

    def score(self, features: Array) -> Array:
        """Return the cosine (N,) float32 of features (N, ...), from 0 to 1.

        Raises InputError for features of another width.
        """
        rows = features.reshape(len(features), -1)
        if rows.shape[1] != len(self.mean):
            raise InputError(
                f"Belonging was learnt from features of {len(self.mean)} numbers, got "
                f"{rows.shape[1]}. Train the model again."
            )
        z = (rows - self.mean) / self.scale
        whole = np.sqrt(np.square(z).sum(axis=1))
        inside = np.sqrt(np.square(z @ self.directions.T).sum(axis=1))
        found = np.divide(inside, whole, out=np.ones_like(whole), where=whole > 0)
        return np.asarray(np.clip(found, 0, 1), np.float32)


@dataclass(frozen=True)
class Belonging:
    """A space, what is usual, and the score below which a photo is said to be unsure.

    `usual` is the median and the median deviation of photos held out: of the cosine, and of what is
    taken of their `logits`, a name of `SIGNS`.
    `scores` (101,) go from the lowest to the highest of photos that were held out, with equally
    many photos between each two. `photos` is how many there were, `kept` the share of them that
    reaches the threshold.
    """

    space: Space = field(repr=False)
    usual: tuple[float, float, float, float] = field(repr=False)
    scores: tuple[float, ...] = field(repr=False)
    photos: int
    threshold: float
    kept: float = KEPT
    logits: str = "odds"

    @classmethod
    def of(cls, space: Space, cosines: Array, logits: Array, kept: float = KEPT) -> Belonging:
        """Place the threshold by cosines (N,), logits (N, C) of known photos that were held out."""
        if not len(cosines):
            raise InputError("A threshold of belonging needs at least one photo held out.")
        usual = (*_usual(cosines), *_usual(SIGNS[cls.logits].read(logits)))
        scores = joined(cosines, logits, usual, SIGNS[cls.logits])
        levels = np.quantile(scores.astype(np.float64), np.linspace(0, 1, LEVELS))
        known = tuple(round(float(level), 6) for level in levels)
        return cls(space, usual, known, len(scores), known[0]).keeping(kept)

    def score(self, features: Array, logits: Array) -> Array:
        """Return the belonging (N,) float32, 0 to 1, of features (N, ...) and logits (N, C)."""
        return joined(self.space.score(features), logits, self.usual, SIGNS[self.logits])

    def keeping(self, share: float) -> Belonging:
        """Return the same with the threshold that keeps another share of the known photos, 0 to 1.

        Of few photos the threshold is the lowest score: the next photo of N + 1 is below it with a
        chance of 1 in N + 1. Raises InputError for another number.
        """
        if not 0 <= share <= 1:
            raise InputError(f"The share of photos to keep must be from 0 to 1, got {share}.")
        place = min(max((1 - share) * (self.photos + 1) - 1, 0) / max(self.photos - 1, 1), 1.0)
        threshold = float(np.interp(place, np.linspace(0, 1, LEVELS), self.scores))
        return replace(self, threshold=round(threshold, 6), kept=share)

    def sure(self, scores: Array) -> NDArray[np.bool_]:
        """Tell of scores (N,) whether they reach the threshold."""
        return reach(scores, self.threshold)

    @property
    def error(self) -> float:
        """The standard error of the share that will be kept, from so many photos."""
        share = min(max(self.kept, 1 / (self.photos + 2)), 1 - 1 / (self.photos + 2))
        return math.sqrt(share * (1 - share) / self.photos)

    def sentence(self) -> str:
        """Return what the threshold promises, as one would say it."""
        return (
            f"belonging: below {self.threshold:.3f} a photo is unsure, which keeps "
            f"{100 * self.kept:.0f} ± {100 * self.error:.1f} % of photos of these classes "
            f"(told by {self.photos} held out)"
        )

    def promise(self) -> dict[str, Any]:
        """Return the threshold, the share that it keeps, and how many photos placed it."""
        return {"threshold": self.threshold, "kept": self.kept, "photos": self.photos}

    def to_json(self) -> dict[str, Any]:
        """Return everything but the space as plain data."""
        return {
            **self.promise(), "logits": self.logits, "usual": list(self.usual),
            "scores": list(self.scores),
        }  # fmt: skip

    def tensors(self) -> dict[str, Array]:
        """Return the space's arrays by name."""
        return {name: getattr(self.space, name) for name in TENSORS}

    @classmethod
    def from_json(cls, row: Mapping[str, Any], tensors: Mapping[str, Array]) -> Belonging:
        """Return what `to_json` and `tensors` were called on; raise InputError where it cannot be.

        KeyError names what is missing; before format 5 nothing told what is taken of the logits.
        """
        space = Space(*(tensors[name] for name in TENSORS))
        if unknown := sorted(set(tensors) - set(TENSORS)):
            raise InputError(f"unknown tensors of belonging {unknown}")
        _check_space(space)
        if unknown := sorted(set(row) - _FIELDS):
            raise InputError(f"unknown fields of belonging {unknown}")
        photos, scores = row["photos"], row["scores"]
        if type(photos) is not int or photos < 1:
            raise InputError(f"belonging.photos must be a positive integer, got {photos!r}")
        if type(scores) is not list or len(scores) != LEVELS or scores != sorted(scores):
            raise InputError(f"belonging.scores must be {LEVELS} numbers that rise")
        usual = row["usual"]
        if type(usual) is not list or len(usual) != 4 or not all(
            type(value) in (int, float) and math.isfinite(value) for value in usual
        ) or min(usual[1], usual[3]) <= 0:  # fmt: skip
            raise InputError("belonging.usual must be medians and deviations, four numbers")
        for value in (*scores, row["threshold"], row["kept"]):
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise InputError(f"belonging holds {value!r}, which is not from 0 to 1")
        a, b, c, d = map(float, usual)
        threshold, kept = float(row["threshold"]), float(row["kept"])
        logits = row.get("logits", "energy")
        if type(logits) is not str:
            raise InputError(f"belonging.logits must be text, got {logits!r}")
        lookup(SIGNS, logits, "sign")
        scores = tuple(map(float, scores))
        return cls(space, (a, b, c, d), scores, photos, threshold, kept, logits)


_FIELDS = frozenset({"threshold", "kept", "photos", "logits", "usual", "scores"})


def odds(logits: Array) -> Doubles:
    """Return log p / (1 - p) of the likeliest class of each row of logits (N, C), C ≥ 2."""
    rest = logits.astype(np.float64)
    rows, best = np.arange(len(rest)), rest.argmax(axis=1)
    top = rest[rows, best]
    rest[rows, best] = -np.inf
    return np.asarray(top - energy(rest))


def energy(logits: NDArray[np.floating]) -> Doubles:
    """Return log Σ exp of each row of logits (N, C) (Liu, Wang, Owens & Li 2020)."""
    z = logits.astype(np.float64)
    top = z.max(axis=1)
    return np.asarray(top + np.log(np.exp(z - top[:, None]).sum(axis=1)))


@dataclass(frozen=True)
class Sign:
    """What is taken of logits, and how many deviations speak for a photo at most."""

    read: Callable[[Array], Doubles]
    most: float


SIGNS = {
    "odds": Sign(odds, 2.0),
    "energy": Sign(energy, math.inf),  # of bundles before format 5
}


def _usual(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return the median and the median deviation of values (N,)."""
    middle = float(np.median(values))
    return middle, max(float(np.median(np.abs(values - middle))), _LEAST)


def joined(cosines: Array, logits: Array, usual: tuple[float, ...], sign: Sign) -> Array:
    """Return the scores (N,): both deviations, brought to 0 … 1; what is usual has about 0.5."""
    total = np.minimum((cosines - usual[0]) / usual[1], sign.most)
    total = total + np.minimum((sign.read(logits) - usual[2]) / usual[3], sign.most)
    return np.asarray(1 / (1 + np.exp(-np.clip(total / SPREAD, -50, 50))), np.float32)


def reach(scores: Array, threshold: float) -> NDArray[np.bool_]:
    """Tell of scores (N,) whether they reach a threshold, as they are shown: to six digits."""
    return np.asarray(np.round(scores.astype(np.float64), 6) >= threshold)


def kept(belonging: Belonging | None, share: float | None) -> Belonging | None:
    """Return a model's belonging for another share to keep, where one is given.

    Raises InputError where there is none that could be asked.
    """
    if share is None:
        return belonging
    if belonging is None:
        raise InputError(
            f"This model cannot tell which photos are none of its classes, so keep={share} means "
            "nothing. Train it again with photos held out, or leave keep out."
        )
    return belonging.keeping(share)


def learn(features: Array) -> Space:
    """Find the space of features (N, ...) float32, N ≥ 2, of photos of the known classes."""
    rows = features.reshape(len(features), -1)
    mean = rows.mean(axis=0, dtype=np.float64)
    variance = np.square(rows - mean).mean(axis=0)
    # As the solved head standardises: between one scale for all and unit variance.
    scale = (variance + max(_RARE * variance.mean(), np.finfo(np.float32).tiny)) ** 0.25
    z = np.asarray((rows - mean) / scale, np.float32)
    return Space(mean.astype(np.float32), scale.astype(np.float32), _directions(z))


def _directions(z: Array) -> Array:
    """Return the leading right singular vectors (K, D) of z (N, D)."""
    if min(z.shape) > _EXACT:
        return _leading(z)
    wide = len(z) < z.shape[1]
    products = (z @ z.T if wide else z.T @ z).astype(np.float64)
    values, vectors = np.linalg.eigh(products)
    rank = int((values > max(_NEGLIGIBLE * values[-1], np.finfo(float).tiny)).sum())
    count = min(DIRECTIONS, max(int(PART * rank), 1))
    leading = vectors[:, ::-1][:, :count]
    if not wide:
        return np.asarray(leading.T, np.float32, order="C")
    spanned = z.T @ leading  # of the span of the rows; orthonormal but for rounding
    return np.asarray(np.linalg.qr(spanned)[0].T, np.float32, order="C")


def _leading(z: Array) -> Array:
    """Find them by subspace iteration (Halko, Martinsson & Tropp 2011): they need not be exact."""
    draw = np.random.default_rng(0).standard_normal((z.shape[1], DIRECTIONS + _BESIDE))
    basis = np.asarray(draw, np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(z.T @ (z @ basis))[0]
    _, _, turned = np.linalg.svd(z @ basis, full_matrices=False)
    return np.asarray((basis @ turned[:DIRECTIONS].T).T, np.float32, order="C")


def held_out(features: Array, folds: Ints) -> Array:
    """Return the cosine (N,) of each row, as if it alone were not learnt from; NaN for fold -1.

    Spaces are learnt without the row's fold, and what they lack by that is added: see `unseen`.
    """
    found, count = np.full(len(features), np.nan, np.float32), int(folds.max(initial=-1)) + 1
    for fold in range(count):
        mine, rest = folds == fold, folds != fold
        if mine.any() and rest.sum() > 1:
            beside = folds[rest] == (fold + 1) % count
            found[mine] = unseen(features[mine], features[rest], beside, len(features))
    return found


def unseen(asked: Array, learnt: Array, beside: NDArray[np.bool_], whole: int) -> Array:
    """Return the cosines (M,) of rows (M, D) that are not learnt from, by a space of `whole` rows.

    The space is that of the `learnt` (N, D); fewer rows make a smaller cosine. How much smaller is
    told by a space without the rows `beside` (N,) too: what is lacking falls as 1 / N.
    """
    space, fewer = learn(learnt), learnt[~beside]
    cosines = space.score(asked)
    if not beside.any() or len(fewer) < 2:
        return cosines
    other = learn(fewer)
    if PART * whole > DIRECTIONS:  # more of them come no longer with more rows: compare as many
        space = replace(space, directions=space.directions[: len(other.directions)])
    gained = float((space.score(asked) - other.score(asked)).mean())
    more = (1 / len(learnt) - 1 / whole) / (1 / len(fewer) - 1 / len(learnt))
    return np.asarray(cosines + gained * max(more, 0), np.float32)


def some(count: int, width: int, most: int = MOST, seed: int = 0) -> Ints:
    """Return which of `count` rows to learn from, in order: all, or as many as take 256 MiB."""
    fit = max(min(most, 2**28 // (4 * max(width, 1))), 2)
    if count <= fit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:fit])


def _check_space(space: Space) -> None:
    """Refuse arrays that do not fit each other or hold what cannot be."""
    shapes: Sequence[tuple[int, ...]] = [getattr(space, name).shape for name in TENSORS]
    width = shapes[0][0] if len(shapes[0]) == 1 else 0
    fits = shapes[1] == (width,) and len(shapes[2]) == 2 and shapes[2][1] == width
    if not width or not fits or not 0 < shapes[2][0] <= width:
        raise InputError(f"the tensors of belonging have shapes {', '.join(map(str, shapes))}")
    for name in TENSORS:
        if not np.isfinite(getattr(space, name)).all():
            raise InputError(f"the tensor 'belonging.{name}' holds values that are not finite")
    if not (space.scale > 0).all():
        raise InputError("the tensor 'belonging.scale' holds values that are not positive")
