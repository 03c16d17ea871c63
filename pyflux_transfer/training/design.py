"""Features in the coordinates in which a linear head is quickly found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.features import Features
from pyflux_transfer.training.rows import ALONE, Rows, Workers, blocks, kept, workers

Doubles = NDArray[np.float64]
Floats = NDArray[np.floating]
Map = Callable[[Floats], Floats]

WIDEST = 4096  # that is rotated: eigenvectors cost its cube, here 15 s
NEGLIGIBLE = 1e-10  # of the largest second moment: directions that carry nothing
RARE = 1e-4  # of the mean variance, added to all: what hardly varies is not blown up


@dataclass(frozen=True)
class Standard:
    """What is taken from each feature, and what it is divided by: both (D,) float64.

    The scale is the root of the standard deviation, times a constant that makes the mean square
    of a row 1. It lies between one scale for all, by which the most varying features decide, and
    unit variance, by which the rare ones do: over 15 sets of images the head does better on
    unseen photos than with either. `alike` asks for one scale for all.
    """

    mean: Doubles
    scale: Doubles

    @classmethod
    def of(cls, rows: Rows, by: Workers = ALONE, *, alike: bool = False) -> Standard:
        """Read all rows twice; labels play no part, so held-out rows may be among them."""

        def total(where: slice) -> Doubles:
            return np.asarray(rows.read(where).sum(axis=0, dtype=np.float64))

        mean = _sum(by, total, rows.blocks()) / rows.count

        def squares(where: slice) -> Doubles:
            return np.asarray(np.square(rows.read(where) - mean).sum(axis=0))

        variance = _sum(by, squares, rows.blocks()) / rows.count
        if not np.isfinite(variance).all():
            raise InputError("Features must be finite; some are infinite or not a number.")
        if not variance.any():
            return cls(mean, np.ones(rows.width))
        scale = np.ones_like(mean) if alike else (variance + RARE * variance.mean()) ** 0.25
        return cls(mean, scale * np.sqrt((variance / scale**2).sum()))

    def apply(self, block: Array, columns: slice = slice(None)) -> Doubles:
        """Return those columns of rows (n, D), standardised."""
        found = block[:, columns] - self.mean[columns]
        found /= self.scale[columns]
        return np.asarray(found)


@dataclass(frozen=True)
class Design:
    """Rows, and coordinates of weights in which their second moments are nearly diagonal.

    A weight on the standardised features is an orthonormal basis times its R coordinates, so the
    penalty ‖W‖² is the same in both. A bias follows the coordinates. Maps keep the dtype.
    """

    standard: Standard
    rows: Rows  # (N, F): the features themselves, or their coordinates
    spectrum: Doubles  # (R + 1,) mean squares of the coordinates, and 1 for the bias
    lift: Map  # (M, R + 1) → (M, F + 1): what a row is multiplied by, and added to it
    drop: Map  # (M, F + 1) → (M, R + 1), its transpose
    original: Map  # (M, R + 1) → (M, D + 1): weights and biases for the features as they came


def reduce(features: Array | Features, *, alike: bool = False) -> Design:
    """Standardise features (N, ...) float32 and rotate them to the basis of their second moments.

    With fewer rows than features the optimum of a penalised head lies in the span of the rows:
    N coordinates are enough, and exact. They are shared among strengths and folds. They are kept as
    `rows.kept` says; where that finds no room, weights are rotated in the rows' place. With
    `alike` all features are divided by one number, so a penalty on weights is one on those for
    the features as they came.
    Raises InputError where there is no row or a number is not finite.
    Source: the representer theorem (Kimeldorf & Wahba 1971), Hastie & Tibshirani 2004.
    """
    rows = Rows.of(features)
    with workers() as by:
        standard = Standard.of(rows, by, alike=alike)
        if (rows.width if rows.apart else min(rows.count, rows.width)) > WIDEST:
            return _plain(rows, standard, by)
        few = rows.count < rows.width and rows.apart is None
        return (_dual if few else _primal)(rows, standard, by)


def _dual(rows: Rows, standard: Standard, by: Workers) -> Design:
    """Take coordinates from the eigenvectors of the rows' inner products (N, N)."""
    whole = rows.read(slice(0, rows.count))

    def products(columns: slice) -> Doubles:
        z = standard.apply(whole, columns)
        return np.asarray(z @ z.T)

    values, vectors = np.linalg.eigh(_sum(by, products, blocks(rows.width, rows.count)))
    kept = values > max(NEGLIGIBLE * values[-1], np.finfo(float).tiny)
    values, vectors = values[kept], vectors[:, kept]
    held = Rows.of((vectors * np.sqrt(values)).astype(np.float32))
    back = _affine(standard, None)[0]

    def original(w: Floats) -> Floats:
        dual = (w[:, :-1] / np.sqrt(values)) @ vectors.T  # (M, N)
        found = np.zeros((len(w), rows.width))
        for where in rows.blocks():
            found += dual[:, where] @ standard.apply(rows.read(where))
        return back(np.column_stack([found, w[:, -1]]))

    return Design(standard, held, np.append(values / rows.count, 1), _same, _same, original)


def _primal(rows: Rows, standard: Standard, by: Workers) -> Design:
    """Take coordinates from the eigenvectors of the features' second moments (D, D)."""

    def moments(where: slice) -> Array:
        z = standard.apply(rows.read(where)).astype(np.float32)  # the basis need not be exact
        return z.T @ z

    found = _sum(by, moments, rows.blocks(rows.width)) / rows.count
    values, vectors = np.linalg.eigh(found)
    lift, drop = _affine(standard, vectors)
    spectrum = np.append(values.clip(0), 1)
    turned = Design(standard, rows, spectrum, lift, drop, lift)  # weights are, in the rows' place
    if rows.apart is not None:
        return turned

    def rotate(where: slice) -> Doubles:
        return np.asarray(standard.apply(rows.read(where)) @ vectors)

    try:
        return replace(turned, rows=kept(rows, rotate, by), lift=_same, drop=_same)
    except OSError:  # no room on the disk
        return turned


def _plain(rows: Rows, standard: Standard, by: Workers) -> Design:
    """Keep the features' own coordinates, where eigenvectors would cost too much."""

    def squares(where: slice) -> Doubles:
        return np.asarray(np.square(standard.apply(rows.read(where))).sum(axis=0))

    variance = _sum(by, squares, rows.blocks()) / rows.count
    lift, drop = _affine(standard, None)
    return Design(standard, rows, np.append(variance, 1), lift, drop, lift)


def _sum(by: Workers, work: Callable[[slice], Floats], blocks: list[slice]) -> Doubles:
    """Add up in float64 what the work makes of the blocks, in their order."""
    parts = by.each(work, blocks)
    total = next(parts).astype(np.float64)
    for part in parts:
        total += part
    return total


def _affine(standard: Standard, basis: Doubles | None) -> tuple[Map, Map]:
    """Return the map from coordinates to weights on raw features, and its transpose."""

    def lift(w: Floats) -> Floats:
        inner = w[:, :-1] if basis is None else w[:, :-1] @ basis.T.astype(w.dtype)
        inner = inner / standard.scale.astype(w.dtype)
        return np.column_stack([inner, w[:, -1] - inner @ standard.mean.astype(w.dtype)])

    def drop(g: Floats) -> Floats:
        inner = g[:, :-1] - g[:, -1:] * standard.mean.astype(g.dtype)
        inner = inner / standard.scale.astype(g.dtype)
        rotated = inner if basis is None else inner @ basis.astype(g.dtype)
        return np.column_stack([rotated, g[:, -1]])

    return lift, drop


def _same(w: Floats) -> Floats:
    return w
