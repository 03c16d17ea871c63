from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pyflux_transfer.engines.base import Labels
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.features import Features
from pyflux_transfer.training.solver import only_dense, solve
from tests.engines import fake
from tests.training.helpers import CountingNetwork, network

WIDTH, CLASSES = 16, 3


def problem(count: int = 90, spread: float = 1.0) -> tuple[Array, Labels]:
    """Three clouds that overlap, far from the origin and of unlike scales."""
    rng = np.random.default_rng(0)
    y = rng.integers(CLASSES, size=count)
    x = rng.normal(0, 1, (CLASSES, WIDTH))[y] + rng.normal(0, 2, (count, WIDTH))
    return (spread * x * rng.uniform(0.5, 2, WIDTH) + 3 * spread).astype(np.float32), y


def run(
    x: Array,
    y: Labels,
    decay: float,
    smoothing: float = 0.0,
    weights: Array | None = None,
) -> tuple[CountingNetwork, float]:
    net = network()
    features = Features(x.shape[1:], len(x), lambda rows: x[np.asarray(rows)])
    return net, solve(net, features, y, decay=decay, smoothing=smoothing, weights=weights)


def reference(x: Array, y: Labels, decay: float, weights: Array | None = None) -> tuple[Array, ...]:
    """scikit-learn minimises C·Σ w·loss + ½‖W‖², we minimise Σ w·loss / Σ w + decay/2·‖W‖².

    It is given features of unit spread, on which its solver converges.
    """
    total = len(y) if weights is None else float(weights[y].sum())
    spread = x.astype(float).std()
    model = LogisticRegression(
        C=spread**2 / (decay * total), tol=1e-8, max_iter=5000,
        class_weight=None if weights is None else dict(enumerate(weights.astype(float))),
    )  # fmt: skip
    model.fit(x.astype(float) / spread, y)
    return model.coef_ / spread, model.intercept_


@pytest.mark.parametrize("strength", [1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_the_optimum_is_scikit_learns(strength: float, spread: float) -> None:
    x, y = problem(spread=spread)
    decay = strength * spread**2
    net, _ = run(x, y, decay)
    coef, intercept = reference(x, y, decay)
    scale = np.abs(coef).max()
    np.testing.assert_allclose(net.tensors["classifier.weight"], coef, atol=1e-3 * scale)
    np.testing.assert_allclose(net.logits(x), x @ coef.T + intercept, rtol=2e-3, atol=2e-3)


def test_the_optimum_with_class_weights_is_scikit_learns() -> None:
    x, y = problem()
    weights = np.array([0.5, 2.0, 1.0], np.float32)
    net, _ = run(x, y, 1e-2, weights=weights)
    coef, intercept = reference(x, y, 1e-2, weights)
    np.testing.assert_allclose(net.logits(x), x @ coef.T + intercept, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_that_of_a_step_and_its_slope_is_zero(smoothing: float, weighted: bool) -> None:
    x, y = problem()
    weights = np.array([0.5, 2.0, 1.0], np.float32) if weighted else None
    decay = 1e-2
    net, loss = run(x, y, decay, smoothing, weights)
    wanted, slope = fake.cross_entropy(net.logits(x), y, weights, smoothing)
    assert loss == pytest.approx(wanted, rel=1e-4)
    gradient = slope.T @ x + decay * net.tensors["classifier.weight"]
    assert np.abs(gradient).max() < 1e-4
    assert np.abs(slope.sum(0)).max() < 1e-4


def test_features_that_are_all_alike_are_no_obstacle() -> None:
    y = np.array([0, 1, 2, 0])
    net, loss = run(np.ones((4, WIDTH), np.float32), y, 1e-2)
    entropy = -(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25))
    assert loss == pytest.approx(entropy, rel=1e-4)
    assert np.isfinite(net.tensors["classifier.weight"]).all()


def test_nothing_but_the_dense_layer_changes() -> None:
    before = network().state()
    net, _ = run(*problem(), decay=1e-2)
    for name, value in net.state().items():
        changed = name in ("classifier.weight", "classifier.bias")
        assert np.array_equal(value, before[name]) is not changed


def test_dropout_before_the_dense_layer_is_no_obstacle() -> None:
    net = network(head=Head(CLASSES, dropout=0.5))
    assert only_dense(net.units[net.cut :]) == "classifier"


@pytest.mark.parametrize(
    ("cut", "head", "held"),
    [
        ("stage2", Head(CLASSES), "conv3, avgpool, flatten and 1 more"),
        ("head", Head(CLASSES, hidden=(5,)), r"classifier\.0, classifier\.3"),
        ("head", Head(CLASSES, keep="classifier"), r"classifier\.1, head"),
        (3, Head(CLASSES), "avgpool, flatten, classifier"),
    ],
)
def test_any_other_tail_is_refused(cut: int | str, head: Head, held: str) -> None:
    net = network(cut, head)
    with pytest.raises(InputError, match=f"holds {held}. Use cut='head'"):
        only_dense(net.units[net.cut :])


def test_without_decay_classes_that_part_are_told_apart() -> None:
    x, y = problem(12)
    net, loss = run(x, y, 0.0)
    assert 0 < loss < 1e-4
    assert (net.logits(x).argmax(axis=1) == y).all()
    assert np.isfinite(net.tensors["classifier.weight"]).all()
