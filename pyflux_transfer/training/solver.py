"""A linear head trained to the optimum of its loss, on features that are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.engines.base import Array, Labels, Network, State
from pyflux_transfer.errors import InputError
from pyflux_transfer.training.features import Features

Doubles = NDArray[np.float64]


def solve(
    network: Network,
    features: Features,
    labels: Labels,
    *,
    decay: float,
    smoothing: float,
    weights: Array | None,
) -> tuple[float, int]:
    """Minimise cross-entropy + decay/2·‖W‖² over the head's weight and bias with L-BFGS.

    The problem is convex (multinomial logistic regression), so neither a learning rate nor a
    number of epochs is needed. Starts from zero, computes in float64, writes the result into the
    network. Returns the mean loss and the count of iterations.
    Source: Liu & Nocedal 1989, as in scipy.optimize.
    """
    from scipy.optimize import minimize  # slow to import

    name = _only_dense(network)
    x = features.take(range(features.count)).reshape(features.count, -1).astype(np.float64)
    # Features of unit spread make the steps of all directions alike; undone below.
    mean, scale = x.mean(axis=0), x.std() or 1.0
    x = (x - mean) / scale
    classes, width = network.units[-1].layers[0].shape
    target = _targets(labels, classes, smoothing, weights)

    def loss(flat: Doubles) -> tuple[float, Doubles]:
        weight, bias = flat[: classes * width].reshape(classes, width), flat[classes * width :]
        logits = x @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        delta = np.exp(logs) * target.sum(axis=1, keepdims=True) - target
        norm = decay / scale**2  # ‖W‖² is that of the weight on unscaled features
        value = -(target * logs).sum() + 0.5 * norm * (weight**2).sum()
        gradient = np.concatenate([(delta.T @ x + norm * weight).ravel(), delta.sum(axis=0)])
        return float(value), gradient

    start = np.zeros(classes * (width + 1))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    weight = found.x[: classes * width].reshape(classes, width) / scale
    bias = found.x[classes * width :] - weight @ mean
    state: State = network.state()
    state[f"{name}.weight"] = weight.astype(np.float32)
    state[f"{name}.bias"] = bias.astype(np.float32)
    network.load_state(state)
    return float(found.fun), int(found.nit)


def _only_dense(network: Network) -> str:
    """Return the name of the tail's only layer, or refuse."""
    layers = [layer for unit in network.units[network.cut :] for layer in unit.layers]
    if len(layers) != 1 or layers[0].op != "dense":
        raise InputError(
            "solver='lbfgs' trains a head of one Dense layer on a frozen trunk; here the tail "
            f"holds {[layer.name for layer in layers]}. Use cut='head' without hidden=, "
            "or solver='steps'."
        )
    return layers[0].name


def _targets(labels: Labels, classes: int, smoothing: float, weights: Array | None) -> Doubles:
    """Return targets (N, classes): the loss is −Σ target·log p, as PyTorch's weighted mean."""
    scale = np.ones(classes) if weights is None else weights.astype(np.float64)
    soft = np.full((len(labels), classes), smoothing / classes) * scale
    soft[np.arange(len(labels)), labels] += (1 - smoothing) * scale[labels]
    return np.asarray(soft / scale[labels].sum())
