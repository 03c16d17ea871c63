from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from pyflux_transfer.engines.base import Labels
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.predict import softmax
from pyflux_transfer.training.temperature import calibrate, fit_temperature, log_losses


def sure(count: int = 500, classes: int = 4) -> tuple[Array, Labels]:
    """Logits, and labels drawn with just the probabilities they state."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, (count, classes))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    y = (p.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return z.astype(np.float32), y


def log_loss(z: Array, y: Labels, temperature: float) -> float:
    z = z.astype(np.float64) / temperature
    z -= z.max(axis=1, keepdims=True)
    return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]).mean())


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0, 15.0])
def test_it_is_scipys(scale: float) -> None:
    z, y = sure()
    peer = minimize_scalar(
        lambda t: log_loss(scale * z, y, t), bounds=(0.05, 20), method="bounded",
        options={"xatol": 1e-8},
    )  # fmt: skip
    found = fit_temperature(scale * z, y)
    assert found == pytest.approx(peer.x, rel=1e-4)
    assert found == pytest.approx(scale, rel=0.15)


@pytest.mark.parametrize(
    ("right", "bound"), [(True, 0.05), (False, 20.0)], ids=["all right", "all wrong"]
)
def test_where_there_is_no_optimum_it_is_the_bound(right: bool, bound: float) -> None:
    y = np.arange(30) % 3
    z = np.eye(3, dtype=np.float32)[y if right else (y + 1) % 3]
    assert fit_temperature(z, y) == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e4, 1e30])
def test_it_is_within_the_bounds_for_logits_of_any_size(size: float) -> None:
    z, y = sure()
    assert 0.05 <= fit_temperature((size * z).astype(np.float32), y) <= 20


def test_logits_that_say_nothing_are_left_as_they_are() -> None:
    assert fit_temperature(np.zeros((5, 3), np.float32), np.arange(5) % 3) == 1


def test_no_photos_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="got 0 labels for 0 rows"):
        fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    with pytest.raises(InputError, match="finite"):
        fit_temperature(np.full((2, 3), np.inf, np.float32), np.zeros(2, np.int64))


def test_right_answers_for_a_few_photos_do_not_make_a_classifier_certain() -> None:
    """Of nine that are right the tenth may be wrong: 0.9 is what they are sure of."""
    y = np.array([0, 1] * 4 + [0])
    logits = (8 * np.eye(2, dtype=np.float32))[y]
    chances = softmax(logits, calibrate(logits, y))
    np.testing.assert_allclose(chances.max(axis=1), 0.9, atol=1e-4)


def test_without_photos_a_classifier_is_as_sure_as_it_is() -> None:
    assert calibrate(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1.0


def test_log_losses_are_of_each_row() -> None:
    logits = np.array([[2, 0, -1], [1000, 0, 0], [0, 1000, 0]], np.float32)
    y = np.array([1, 0, 0])
    chance = softmax(logits[:1], 2.0)[0, 1]
    np.testing.assert_allclose(log_losses(logits, y, 2.0), [-np.log(chance), 0, 500], rtol=1e-5)
