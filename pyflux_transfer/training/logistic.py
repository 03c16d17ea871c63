"""Multinomial logistic regression, solved by truncated Newton steps: several problems at once.

The problems share their rows and differ in which of them they learn from: the folds of a
cross-validation. One matrix product serves all. Loss and gradient, which decide the optimum, are
computed in float64; the curvature, which only says where to go, in float32.

Classes come first: coefficients (C, K, R + 1) hold the coordinates of each weight, then its bias,
for K problems; what belongs to rows is (C, K, n), so sums over classes are sums of long vectors.
Source: truncated Newton (Dembo & Steihaug 1983), as in Lin, Weng & Keerthi 2008.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.engines.base import Labels
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.design import Design, Doubles, Floats
from pyflux_transfer.training.rows import ALONE, Rows, Workers, workers

TOLERANCE = 1e-9  # part of the loss by which it may exceed its minimum, as its curvature reckons
FORCING = 0.1  # a Newton step is solved for until its residual has shrunk to this part,
ENOUGH = 0.2  # or its excess to this part of what is tolerated
NEWTON_STEPS, CONJUGATE_STEPS, HALVINGS = 100, 300, 30
DESCENT, NOISE = 1e-4, 1e-13  # what a step must gain of what its slope promises; rounding of a loss
FLOOR = 1e-13  # the share that a class without rows starts with, and keeps


@dataclass(frozen=True)
class Problem:
    """K problems: minimise Σₙ share[k, n] · Σ꜀ target[c, n] · −log p[c, k, n] + decay/2 · ‖W‖²."""

    design: Design
    labels: Labels  # (N,) int64 from 0
    wanted: Doubles  # (C, C): column y is the target of rows labelled y
    share: Doubles  # (K, N): a row's part in the mean, 0 where it is held out

    @classmethod
    def of(
        cls,
        design: Design,
        labels: Labels,
        classes: int,
        held_out: NDArray[np.bool_] | None = None,
        *,
        smoothing: float = 0.0,
        weights: Array | None = None,
    ) -> Problem:
        """State the problem; problem k learns from the rows not in `held_out` (K, N).

        Label smoothing [0, 1) and class weights (C,) act as in PyTorch: as a weighted mean.
        """
        scale = np.ones(classes) if weights is None else weights.astype(np.float64)
        wanted = scale[:, None] * (smoothing / classes) + np.diag((1 - smoothing) * scale)
        kept = np.ones((1, len(labels))) if held_out is None else 1.0 - held_out
        return cls(design, labels, wanted, kept / (kept @ scale[labels])[:, None])

    @property
    def sums(self) -> Sums:
        """What sums over the rows: this process, or those that have them."""
        rows = self.design.rows
        if rows.apart is not None:
            sums: Sums = rows.apart.sums(self.labels, self.wanted, self.share)
            return sums
        return Blocks(rows, self.labels, self.wanted, self.share)

    def start(self) -> Doubles:
        """Return the optimum of an infinite decay: no weights, biases that give class shares.

        A class without rows gets a bias so low that it stays out of the way; its optimum, minus
        infinity, would be approached for ever.
        """
        members = np.eye(len(self.wanted))[self.labels]
        shares = self.wanted @ (self.share @ members).T  # (C, K)
        start = np.zeros((*shares.shape, len(self.design.spectrum)))
        start[:, :, -1] = np.log(np.maximum(shares / shares.sum(axis=0), FLOOR))
        return start


class Sums(Protocol):
    """The sums over all rows that a step needs, wherever the rows are."""

    def look(self, lifted: Floats, by: Workers) -> Looked:
        """Return loss (K,), spread (C, K), slope (C·K, F + 1) and the chances there."""

    def bending(self, chances: Any, by: Workers) -> Callable[[Floats], Doubles]:
        """Return the product of the curvature, where the chances were, with (C·K, F + 1)."""


Looked = tuple[Doubles, Doubles, Floats, Any]


@dataclass(frozen=True)
class Blocks:
    """Sums over rows that this process reads, block by block; see `Problem` for the fields."""

    rows: Rows
    labels: Labels
    wanted: Doubles
    share: Doubles

    def look(self, lifted: Floats, by: Workers) -> Looked:
        """Return loss (K,), spread (C, K), slope (C·K, F + 1), and chances (C, K, n) a block."""
        classes, count = len(self.wanted), len(self.share)
        slope, spread = np.zeros(lifted.shape), np.zeros((classes, count))
        loss, chances = np.zeros(count), list[Array]()
        for part in by.each(partial(_look_at, self, lifted), self.rows.blocks(len(lifted))):
            loss += part[0]
            spread += part[1]
            slope += part[2]
            chances.append(part[3])
        return loss, spread, slope, chances

    def bending(self, chances: list[Array], by: Workers) -> Callable[[Floats], Doubles]:
        """Return the product of the curvature with weights (C·K, F + 1) float32, summed."""
        mass = self.wanted.sum(axis=0)[self.labels]
        share = (self.share * mass).astype(np.float32)
        blocks = self.rows.blocks(len(self.wanted) * len(self.share))
        there = {where.start: p for where, p in zip(blocks, chances, strict=True)}

        def part(lifted: Floats, where: slice) -> Floats:
            x, p = self.rows.read(where), there[where.start]
            t = (lifted[:, :-1] @ x.T + lifted[:, -1:]).reshape(p.shape)
            # What all classes share bends nothing. Without the label's part nothing cancels where
            # its chance is so near to 1 that float32 does not tell the difference.
            t -= t[self.labels[where], :, np.arange(p.shape[2])].T
            t *= p
            t -= p * t.sum(axis=0)
            t *= share[:, where]
            flat = t.reshape(len(lifted), -1)
            return np.column_stack([flat @ x, flat.sum(axis=1)])

        def product(lifted: Floats) -> Doubles:
            found = np.zeros(lifted.shape)
            for some in by.each(partial(part, lifted), blocks):
                found += some
            return found

        return product


@dataclass(frozen=True)
class Point:
    """Coefficients and what their losses look like there."""

    coefficients: Doubles  # (C, K, R + 1)
    loss: Doubles  # (K,) cross-entropy, nats
    value: Doubles  # (K,) with the penalty
    gradient: Doubles  # (C, K, R + 1)
    metric: Doubles  # (C, K, R + 1), about the curvature's diagonal
    chances: Any  # (C, K, n) float32 for each block of rows, or what means them

    def excess(self) -> Doubles:
        """Return by how much each value exceeds its minimum (K,), as the curvature reckons."""
        return _dot(self.gradient, self.gradient / self.metric) / 2


def minimise(
    problem: Problem,
    decay: float,
    start: Doubles | None = None,
    tolerance: float = TOLERANCE,
) -> Point:
    """Find the optimum of all problems, from `start` (C, K, R + 1) on; decay > 0.

    The optimum is unique, so it does not depend on the start beyond the tolerance.
    """
    with workers() as by:
        point = look(problem, problem.start() if start is None else start, decay, by)
        for _ in range(NEWTON_STEPS):
            open_ = point.excess() > tolerance * point.loss
            if not open_.any():
                break
            curvature = _curvature(problem, point, decay, by)
            step = _step(point, curvature, open_, ENOUGH * tolerance * point.loss)
            further = _advance(problem, point, step, decay, by)
            if further is None:  # as low as rounding allows
                break
            point = further
    return point


def look(problem: Problem, coefficients: Doubles, decay: float, by: Workers = ALONE) -> Point:
    """Compute losses, gradients and chances at coefficients (C, K, R + 1)."""
    width, design = coefficients.shape[-1], problem.design
    lifted = design.lift(coefficients.reshape(-1, width))
    loss, spread, slope, chances = problem.sums.look(lifted, by)
    penalty = _penalty(decay, width)
    gradient = design.drop(slope).reshape(coefficients.shape) + penalty * coefficients
    value = loss + _dot(coefficients, penalty * coefficients) / 2
    metric = np.maximum(spread, FLOOR)[:, :, None] * design.spectrum + penalty
    return Point(coefficients, loss, value, gradient, metric, chances)


def _look_at(sums: Blocks, lifted: Floats, where: slice) -> tuple[Doubles, Doubles, Floats, Array]:
    """Return a block's part in loss (K,), spread (C, K) and slope (C·K, F + 1); its chances."""
    block = sums.rows.read(where)
    target, share = sums.wanted[:, sums.labels[where]], sums.share[:, where]
    z = lifted[:, :-1] @ block.astype(np.float64).T + lifted[:, -1:]
    z = z.reshape(len(target), len(share), -1)
    z -= z.max(axis=0)
    p = np.exp(z)
    total = p.sum(axis=0)
    p /= total
    chances, mass = p.astype(np.float32), target.sum(axis=0)
    losses = np.log(total) * mass - np.einsum("cn,ckn->kn", target, z)
    spread = (p * (1 - p) * (mass * share)).sum(axis=2)
    p *= mass
    p -= target[:, None]
    p *= share
    delta = p.reshape(len(lifted), -1)
    # Exact differences may be summed in float32: rounding is a part of each, and evens out.
    slope = np.column_stack([delta.astype(np.float32) @ block, delta.sum(axis=1)])
    return (losses * share).sum(axis=1), spread, slope, chances


def _curvature(
    problem: Problem, point: Point, decay: float, by: Workers
) -> Callable[[Array], Array]:
    """Return the product of the second derivative with coefficients (C, K, R + 1) float32."""
    design, shape = problem.design, point.gradient.shape
    penalty = _penalty(decay, shape[-1]).astype(np.float32)
    bent = problem.sums.bending(point.chances, by)

    def product(v: Array) -> Array:
        found = bent(design.lift(v.reshape(-1, shape[-1])))
        return design.drop(found.astype(np.float32)).reshape(shape) + penalty * v

    return product


def _step(
    point: Point,
    curvature: Callable[[Array], Array],
    open_: NDArray[np.bool_],
    enough: Doubles,
) -> Doubles:
    """Solve curvature · step = −gradient by preconditioned conjugate gradients, roughly.

    Problems that are not open stay where they are; at an excess of `enough` (K,) one may cease.
    """
    metric = point.metric.astype(np.float32)
    step = np.zeros_like(metric)
    residual = -point.gradient.astype(np.float32)
    way = residual / metric
    size = _dot(residual, way)
    goal = np.maximum(FORCING**2 * size, enough)
    for _ in range(CONJUGATE_STEPS):
        if not open_.any():
            break
        bent = curvature(way)
        length = _ratio(size, _dot(way, bent), open_)
        step += length * way
        residual -= length * bent
        nearer = residual / metric
        new = _dot(residual, nearer)
        open_ = open_ & (new > goal)
        way = nearer + _ratio(new, size, open_) * way
        size = new
    return step.astype(np.float64)


def _advance(
    problem: Problem, point: Point, step: Doubles, decay: float, by: Workers
) -> Point | None:
    """Go along the step, half as far wherever that does not descend; None where nothing does."""
    slope = _dot(point.gradient, step)
    length = np.ones_like(slope)
    for _ in range(HALVINGS):
        further = look(problem, point.coefficients + length[:, None] * step, decay, by)
        far = further.value > point.value + DESCENT * length * slope + NOISE
        if not far.any():
            return further
        length[far] /= 2
    return None


def _penalty(decay: float, width: int) -> Doubles:
    """Return decay for each coordinate (R + 1,), and 0 for the bias."""
    return np.append(np.full(width - 1, decay), 0.0)


def _dot(a: Floats, b: Floats) -> Doubles:
    """Return inner products (K,) of coefficients."""
    return np.asarray(np.einsum("ckr,ckr->k", a, b), np.float64)


def _ratio(above: Doubles, below: Doubles, where: NDArray[np.bool_]) -> Array:
    """Return above / below (K, 1) float32, and 0 elsewhere."""
    where = where & (below > 0)
    return np.divide(above, below, out=np.zeros_like(above), where=where).astype(np.float32)[
        :, None
    ]


@dataclass(frozen=True)
class Solution:
    """A head for features as they came: weight (C, D), bias (C,) float32, cross-entropy in nats."""

    weight: Array
    bias: Array
    loss: float


def solve(problem: Problem, decay: float, start: Doubles | None = None) -> Solution:
    """Solve one problem; `decay` is that of weights on standardised features (see `Standard`)."""
    with workers():
        point = minimise(problem, decay, start)
        weight, bias = original(problem.design, point.coefficients[:, 0])
    return Solution(weight, bias, float(point.loss[0]))


def original(design: Design, coefficients: Doubles) -> tuple[Array, Array]:
    """Return weight (C, D) and bias (C,) float32 for features as they came, of one problem's
    coefficients (C, R + 1)."""
    found = design.original(coefficients)
    found = (found - found.mean(axis=0)).astype(np.float32)  # which alters no probability
    return found[:, :-1], found[:, -1]
