"""A linear head trained to the optimum of its loss for one decay, on features that are kept."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.engines.base import Labels, Network
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Array, State
from pyflux_transfer.networks.units import Unit
from pyflux_transfer.training import logistic
from pyflux_transfer.training.design import reduce
from pyflux_transfer.training.features import Features

LEAST = 1e-10  # decay on standardised features: without any, classes that part have no optimum


def solve(
    network: Network,
    features: Features,
    labels: Labels,
    *,
    decay: float,
    smoothing: float,
    weights: Array | None,
) -> float:
    """Minimise cross-entropy + decay/2·‖W‖² over the head's weight and bias by Newton steps.

    W is the weight on the features (N, ...) float32 as they come; labels (N,) int64 from 0. The
    problem is convex (multinomial logistic regression), so neither a learning rate nor a number
    of epochs is needed. Writes the result into the network and returns the cross-entropy.
    """
    name = only_dense(network.units[network.cut :])
    design = reduce(features, alike=True)
    scale = design.standard.scale[0]
    problem = logistic.Problem.of(
        design, labels, network.units[-1].layers[0].shape[0], smoothing=smoothing, weights=weights
    )
    head = logistic.solve(problem, max(decay / scale**2, LEAST))
    write_dense(network, name, head.weight, head.bias)
    return head.loss


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


def write_dense(network: Network, name: str, weight: Array, bias: Array) -> None:
    """Put weight (C, D) and bias (C,) into a Dense layer of the network."""
    state: State = network.state()
    state[f"{name}.weight"] = weight
    state[f"{name}.bias"] = bias
    network.load_state(state)
