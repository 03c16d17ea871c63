from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.metrics import (
    calibration_chance,
    calibration_error,
    confusion,
    evaluate,
    log_loss,
)

CLASSES = ("ants", "bees", "cats", "dogs")


def answers(count: int, seed: int = 0, sharp: float = 2.0) -> tuple[Any, Any]:
    """Probabilities that are right more often than not, and labels; every class occurs."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(4), rng.integers(4, size=count - 4)])
    logits = rng.normal(0, sharp, (count, 4))
    logits[np.arange(count), labels] += sharp
    powers = np.exp(logits)
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [4, 37, 500])
def test_every_score_is_scikit_learns(count: int, seed: int) -> None:
    probabilities, labels = answers(count, seed)
    called = probabilities.argmax(1)
    found = evaluate(probabilities, labels, CLASSES)
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        labels, called, labels=range(4), zero_division=0
    )
    assert found.count == count
    assert found.accuracy == pytest.approx(reference.accuracy_score(labels, called))
    assert found.balanced_accuracy == pytest.approx(
        reference.balanced_accuracy_score(labels, called)
    )
    exact = probabilities / probabilities.sum(1, keepdims=True, dtype=float)
    assert found.log_loss == pytest.approx(
        reference.log_loss(labels, exact, labels=range(4)), rel=1e-5
    )
    assert np.array(found.confusion).tolist() == (
        reference.confusion_matrix(labels, called, labels=range(4)).tolist()
    )
    for i, score in enumerate(found.classes):
        assert score.label == CLASSES[i]
        assert (score.precision, score.recall, score.f1) == pytest.approx(
            (precision[i], recall[i], f1[i])
        )
        assert score.count == support[i]


def test_a_class_without_examples_counts_in_no_mean() -> None:
    probabilities = np.eye(4, dtype=np.float32)[[0, 1, 1, 3]]
    found = evaluate(probabilities, np.array([0, 0, 1, 1]), CLASSES)
    assert found.balanced_accuracy == 0.5
    assert [score.count for score in found.classes] == [2, 2, 0, 0]
    assert [score.precision for score in found.classes] == [1, 0.5, 0, 0]
    assert found.classes[2].f1 == 0


def test_the_confusions_rows_are_the_true_classes() -> None:
    matrix = confusion(np.array([1, 1, 0]), np.array([0, 0, 2]), 3)
    assert matrix.tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_log_loss_of_certainty_is_finite() -> None:
    assert log_loss(np.array([[1, 0]], np.float32), np.array([0])) == 0
    assert log_loss(np.array([[1, 0]], np.float32), np.array([1])) == pytest.approx(np.log(1e7))


def test_calibration_error_by_hand() -> None:
    """Two bins: 0.6 is right half the time, 0.9 always."""
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.1, 0.9]], np.float32)
    labels = np.array([0, 1, 1, 1])
    assert calibration_error(probabilities, labels) == pytest.approx(0.5 * 0.1 + 0.5 * 0.1)


def test_calibration_error_is_that_of_the_published_definition() -> None:
    probabilities, labels = answers(400)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    wanted = 0.0
    for i in range(15):
        inside = (confidence >= i / 15) & ((confidence < (i + 1) / 15) | (i == 14))
        if inside.any():
            wanted += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert calibration_error(probabilities, labels) == pytest.approx(wanted, abs=1e-6)


def test_calibration_error_of_honest_answers_is_small() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 20_000)
    labels = (rng.uniform(size=20_000) > p).astype(np.int64)
    honest = np.stack([p, 1 - p], 1).astype(np.float32)
    assert calibration_error(honest, labels) < 0.02
    certain = np.repeat(np.array([[1, 0]], np.float32), 20_000, axis=0)
    assert calibration_error(certain, labels) == pytest.approx(labels.mean())


def test_scores_are_plain_data() -> None:
    found = evaluate(*answers(20), CLASSES)
    assert json.loads(json.dumps(found.to_json()))["classes"][0]["label"] == "ants"


def test_nothing_to_evaluate_is_told() -> None:
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), CLASSES)


def test_chance_is_what_honest_answers_show_on_so_many_photos() -> None:
    rng = np.random.default_rng(1)

    def drawn(count: int) -> tuple[float, float]:
        sure = rng.uniform(0.5, 1, count)
        probabilities = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
        found = [
            calibration_error(probabilities, (rng.random(count) > sure).astype(np.int64))
            for _ in range(200)
        ]
        return float(np.mean(found)), calibration_chance(probabilities)

    few, many = drawn(60), drawn(6000)
    assert few[1] == pytest.approx(few[0], abs=0.01)
    assert many[1] == pytest.approx(many[0], abs=0.002)
    assert few[1] > 5 * many[1]
