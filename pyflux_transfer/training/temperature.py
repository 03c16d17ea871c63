"""The one number that makes a classifier as sure as it is right."""

from __future__ import annotations

import math

import numpy as np

from pyflux_transfer.engines.base import Labels
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.design import Doubles

LOWEST, HIGHEST = 0.05, 20.0
STEPS, CLOSE = 60, 1e-6


def fit_temperature(logits: Array, labels: Labels) -> float:
    """Find the T for which softmax(logits / T) has the lowest log loss, between 0.05 and 20.

    `logits` (N, classes) float32 of photos the classifier has not learnt from, `labels` (N,)
    int64 from 0. The loss is convex in 1 / T: Newton's steps, by halves where they leave the
    bracket. Where all are right the bound 0.05 is returned. Raises InputError without photos or
    where a logit is not finite. Source: Guo et al. 2017.
    """
    if not len(labels) or len(logits) != len(labels):
        raise InputError(
            "A temperature needs as many labels as rows of logits and at least one, "
            f"got {len(labels)} labels for {len(logits)} rows."
        )
    if not np.isfinite(logits).all():
        raise InputError("A temperature needs finite logits; some are infinite or not a number.")
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    wanted = z[np.arange(len(z)), labels].mean()
    low, high, sharpness = 1 / HIGHEST, 1 / LOWEST, 1.0
    for _ in range(STEPS):
        slope, bend = _slope(z, wanted, sharpness)
        if slope == 0:
            break
        low, high = (low, sharpness) if slope > 0 else (sharpness, high)
        new = sharpness - slope / bend if bend > 0 else math.inf
        last, sharpness = sharpness, new if low < new < high else math.sqrt(low * high)
        if abs(sharpness - last) < CLOSE * last:
            break
    return 1 / sharpness


def _slope(z: Doubles, wanted: float, sharpness: float) -> tuple[float, float]:
    """Return the first two derivatives of the log loss in the sharpness 1 / T."""
    p = np.exp(sharpness * z)
    p /= p.sum(axis=1, keepdims=True)
    mean = (p * z).sum(axis=1)
    spread = (p * z**2).sum(axis=1) - mean**2
    return float(mean.mean() - wanted), float(spread.mean())


def calibrate(logits: Array, labels: Labels) -> float:
    """Fit the temperature to unseen photos, and to one mistake more than there was.

    Where all of a few photos are right, nothing in them says that the next one could be wrong: by
    Laplace's rule of succession one of N + 1 is. That photo is as the middle one of those there
    are, and the runner-up is its class. 1 where there is no photo.
    """
    if not len(labels):
        return 1.0
    middle = np.argsort(_margins(logits))[len(logits) // 2]
    runner_up = np.argsort(logits[middle])[-2]
    return fit_temperature(
        np.concatenate([logits, logits[middle : middle + 1]]), np.append(labels, runner_up)
    )


def log_losses(logits: Array, labels: Labels, temperature: float = 1.0) -> Doubles:
    """Return each row's log loss in nats (N,), of softmax(logits / temperature)."""
    z = logits / np.float32(temperature)
    z -= z.max(axis=1, keepdims=True)
    wanted = z[np.arange(len(z)), labels]
    return np.asarray(np.log(np.exp(z).sum(axis=1, dtype=np.float64)) - wanted)


def _margins(logits: Array) -> Array:
    """Return by how much each row's highest logit exceeds its second (N,)."""
    two = np.sort(logits, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])
