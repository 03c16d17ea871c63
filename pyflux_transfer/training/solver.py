"""A linear head trained to the optimum of its loss, on features that are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.engines.base import Labels, Network
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Array, State
from pyflux_transfer.networks.units import Unit
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
    number of epochs is needed. Starts from zero, computes in float64 on all features at once,
    writes the result into the network. Returns the cross-entropy and the count of iterations.
    Source: Liu & Nocedal 1989, as in scipy.optimize.
    """
    from scipy.optimize import minimize  # slow to import

    name = only_dense(network.units[network.cut :])
    x = features.take(range(features.count)).reshape(features.count, -1).astype(np.float64)
    # Features of unit spread make the steps of all directions alike; undone below.
    mean, scale = x.mean(axis=0), x.std() or 1.0
    x = (x - mean) / scale
    classes, width = network.units[-1].layers[0].shape
    target = _targets(labels, classes, smoothing, weights)

    norm = decay / scale**2  # ‖W‖² is that of the weight on unscaled features

    def split(flat: Doubles) -> tuple[Doubles, Doubles]:
        return flat[: classes * width].reshape(classes, width), flat[classes * width :]

    def loss(flat: Doubles) -> tuple[float, Doubles]:
        weight, bias = split(flat)
        logits = x @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        delta = np.exp(logs) * target.sum(axis=1, keepdims=True) - target
        value = -(target * logs).sum() + 0.5 * norm * (weight**2).sum()
        gradient = np.concatenate([(delta.T @ x + norm * weight).ravel(), delta.sum(axis=0)])
        return float(value), gradient

    start = np.zeros(classes * (width + 1))
    with _one_thread_for_vectors():
        found = minimize(
            loss, start, jac=True, method="L-BFGS-B",
            options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-7},
        )  # fmt: skip
    weight, bias = split(found.x)
    entropy = found.fun - 0.5 * norm * (weight**2).sum()
    weight = weight / scale
    write_dense(network, name, weight.astype(np.float32), bias - weight @ mean)
    return float(entropy), int(found.nit)


@contextmanager
def _one_thread_for_vectors() -> Iterator[None]:
    """Keep SciPy's own BLAS, where it has one, to one thread.

    It would spread the optimizer's short vectors over threads that take the cores from NumPy's.
    """
    from threadpoolctl import ThreadpoolController

    with ExitStack() as stack:
        for library in ThreadpoolController().lib_controllers:
            if "scipy.libs" in library.filepath:
                stack.callback(library.set_num_threads, library.num_threads)
                library.set_num_threads(1)
        yield


def only_dense(tail: Sequence[Unit]) -> str:
    """Return the name of the Dense layer that is all that trains and computes in a tail."""
    computing = [unit for unit in tail if unit.kind != "dropout"]
    if [unit.kind for unit in computing] != ["dense"]:
        names = [unit.name for unit in computing]
        held = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise InputError(
            "solver='lbfgs' trains one Dense layer on kept features; the part that trains here "
            f"holds {held}. Use cut='head' without hidden layers, or solver='steps'."
        )
    return computing[0].layers[0].name


def write_dense(network: Network, name: str, weight: Array, bias: Doubles | Array) -> None:
    """Put weight (C, D) and bias (C,) into a Dense layer of the network."""
    state: State = network.state()
    state[f"{name}.weight"] = weight
    state[f"{name}.bias"] = bias.astype(np.float32)
    network.load_state(state)


def _targets(labels: Labels, classes: int, smoothing: float, weights: Array | None) -> Doubles:
    """Return targets (N, classes): the loss is −Σ target·log p, as PyTorch's weighted mean."""
    scale = np.ones(classes) if weights is None else weights.astype(np.float64)
    soft = np.full((len(labels), classes), smoothing / classes) * scale
    soft[np.arange(len(labels)), labels] += (1 - smoothing) * scale[labels]
    return np.asarray(soft / scale[labels].sum())
