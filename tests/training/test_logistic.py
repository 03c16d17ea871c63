from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from pyflux_transfer.engines.base import Labels
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training import logistic, rows
from pyflux_transfer.training.design import Doubles, Standard, reduce
from pyflux_transfer.training.logistic import Problem, Solution, minimise, solve
from pyflux_transfer.training.rows import Rows
from tests.engines import fake

CLASSES = 3
WIDTHS = (16, 200)  # fewer features than rows, and more


def clouds(width: int, count: int = 90, classes: int = CLASSES) -> tuple[Array, Labels]:
    """Clouds that overlap, far from the origin and of unlike scales."""
    rng = np.random.default_rng(0)
    y = rng.integers(classes, size=count)
    spread = 2 * (width / 16) ** 0.25
    x = rng.normal(0, 1, (classes, width))[y] + rng.normal(0, spread, (count, width))
    return (x * rng.uniform(0.5, 2, width) + 3).astype(np.float32), y


def standardised(x: Array) -> Doubles:
    return Standard.of(Rows.of(x)).apply(x)


def logits(found: Solution, x: Array) -> Array:
    return x @ found.weight.T + found.bias


def peer(x: Array, y: Labels, decay: float, weights: Array | None = None) -> LogisticRegression:
    """scikit-learn minimises C·Σ w·loss + ½‖W‖², we minimise Σ w·loss / Σ w + decay/2·‖W‖²."""
    total = len(y) if weights is None else float(weights[y].sum())
    return LogisticRegression(
        C=1 / (decay * total), tol=1e-10, max_iter=20_000, solver="newton-cg",
        class_weight=None if weights is None else dict(enumerate(weights.astype(float))),
    ).fit(standardised(x), y)  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("decay", [1e-5, 1e-3, 1e-1])
@pytest.mark.parametrize("weights", [None, np.array([0.5, 2.0, 1.0], np.float32)])
def test_the_optimum_is_scikit_learns(width: int, decay: float, weights: Array | None) -> None:
    x, y = clouds(width)
    found = solve(Problem.of(reduce(x), y, CLASSES, weights=weights), decay)
    wanted = peer(x, y, decay, weights).decision_function(standardised(x))
    wanted -= wanted.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(logits(found, x), wanted, atol=2e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("way", ["rows.HELD_BYTES", "design.WIDEST", "rows.BLOCK_NUMBERS"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_way_leads_to_the_same_head(
    way: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = clouds(width)
    wanted = logits(solve(Problem.of(reduce(x), y, CLASSES), 1e-3), x)
    monkeypatch.setattr(f"pyflux_transfer.training.{way}", 500 if "BLOCK" in way else 1)
    found = logits(solve(Problem.of(reduce(x), y, CLASSES), 1e-3), x)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_that_of_a_step_and_its_slope_is_zero(
    width: int, smoothing: float, weighted: bool
) -> None:
    x, y = clouds(width)
    weights = np.array([0.5, 2.0, 1.0], np.float32) if weighted else None
    decay = 1e-2
    problem = Problem.of(reduce(x), y, CLASSES, smoothing=smoothing, weights=weights)
    found, standard = solve(problem, decay), Standard.of(Rows.of(x))
    loss, slope = fake.cross_entropy(logits(found, x), y, weights, smoothing)
    assert found.loss == pytest.approx(loss, rel=1e-4)
    gradient = slope.T @ standard.apply(x) + decay * found.weight * standard.scale
    assert np.abs(gradient).max() < 1e-5
    assert np.abs(slope.sum(0)).max() < 1e-5


def test_problems_that_are_solved_together_are_as_if_solved_alone() -> None:
    x, y = clouds(200)
    held_out = np.arange(len(y)) % 4 == np.arange(4)[:, None]
    reduced = reduce(x)
    together = minimise(Problem.of(reduced, y, CLASSES, held_out), 1e-3)
    for k in range(4):
        alone = minimise(Problem.of(reduced, y, CLASSES, held_out[k : k + 1]), 1e-3)
        assert together.value[k] == pytest.approx(alone.value[0], abs=1e-9)
        np.testing.assert_allclose(together.coefficients[:, k], alone.coefficients[:, 0], atol=2e-3)


def test_the_start_does_not_matter_and_the_excess_tells_the_truth() -> None:
    x, y = clouds(200)
    problem = Problem.of(reduce(x), y, CLASSES)
    best = minimise(problem, 1e-4, tolerance=1e-12)
    start = np.random.default_rng(3).normal(0, 30, problem.start().shape)
    for tolerance in (1e-3, 1e-6, 1e-9):
        found = minimise(problem, 1e-4, start, tolerance)
        excess = found.value - best.value
        assert (found.excess() <= tolerance * found.loss).all()
        assert (np.abs(excess) < 10 * tolerance * found.loss).all()


def test_a_class_without_rows_gets_no_probability_and_disturbs_no_other() -> None:
    x, y = clouds(16)
    reduced = reduce(x)
    three, four = (logits(solve(Problem.of(reduced, y, n), 1e-3), x) for n in (3, 4))
    assert (four[:, 3] < four[:, :3].min(axis=1) - 10).all()
    centred = four[:, :3] - four[:, :3].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(centred, three, atol=1e-3)


def test_features_that_are_all_alike_are_no_obstacle() -> None:
    y = np.array([0, 1, 2, 0])
    found = solve(Problem.of(reduce(np.ones((4, 16), np.float32)), y, CLASSES), 1e-2)
    entropy = -(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25))
    assert found.loss == pytest.approx(entropy, rel=1e-6)


def test_the_number_of_threads_does_not_alter_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clouds(600, 700, 10)

    def weight(threads: int, of_products: int) -> Array:
        monkeypatch.setattr(rows, "_threads", lambda: threads)
        with threadpool_limits(of_products, "blas"):
            return solve(Problem.of(reduce(x), y, 10), 1e-4).weight

    alone = weight(1, 1)
    for threads, of_products in ((2, 1), (5, 1), (2, 4)):
        np.testing.assert_array_equal(weight(threads, of_products), alone)


def test_what_float32_cannot_tell_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def counted(*given: object) -> logistic.Point:
        looks.append(given)
        return look(*given)  # type: ignore[arg-type]

    look = logistic.look
    monkeypatch.setattr(logistic, "look", counted)
    rng = np.random.default_rng(0)
    y = rng.integers(5, size=1000)
    x = np.maximum(rng.normal(0, 0.15, (5, 1024))[y] + rng.normal(0, 1, (1000, 1024)), 0)
    design = reduce(x.astype(np.float32))  # classes that part: the loss falls to nothing
    held_out = np.arange(len(y)) % 5 == np.arange(5)[:, None]
    problem, start = Problem.of(design, y, 5, held_out), None
    for decay in 10.0 ** np.arange(-3, -14, -1):
        found = minimise(problem, decay, start, 1e-5)
        start = found.coefficients
    assert found.loss.max() < 1e-6
    assert len(looks) < 100
