from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyflux_transfer.data.dataset import Dataset
from pyflux_transfer.data.preprocess import load
from pyflux_transfer.engines.base import Network, Plan
from pyflux_transfer.engines.torch import network as torch_engine
from pyflux_transfer.errors import TrainingError
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.training.callbacks import Record, Timer
from pyflux_transfer.training.examples import Examples, Live, Maker, labels_of
from pyflux_transfer.training.features import Features, Item
from pyflux_transfer.training.loop import run_phase, validate
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.plan import Phase
from tests.engines import fake
from tests.training.helpers import NOWHERE, Notes, datasets, network

PLAIN = fake.TINY.preprocessing


@pytest.fixture
def train(tmp_path: Path) -> Dataset:
    return datasets(tmp_path / "photos")[0]


def train_on(
    net: Network, examples: Examples, epochs: int = 4, lr: float = 1e-2, **changes: Any
) -> Iterator[Record]:
    options = Options(**{"batch_size": 4, **changes})
    net.prepare(options.update())
    return run_phase(
        net, Phase(net.cut, epochs, lr), examples, lambda: None, options, None, Timer(),
        number=1, before=0,
    )  # fmt: skip


def cached(net: Network, train: Dataset, **changes: Any) -> Examples:
    options = Options(**{"batch_size": 4, **changes})
    return Maker(net, PLAIN, options, NOWHERE, Timer(), Notes()).training(train)


def uncached(net: Network, train: Dataset) -> Examples:
    return Live(
        [Item(sample) for sample in train.samples],
        lambda item, _: load(item.sample.path, PLAIN),
        net, Options(batch_size=4), Timer(),
    )  # fmt: skip


def losses(records: Iterator[Record]) -> list[float]:
    return [record.train_loss for record in records]


@pytest.mark.parametrize("cut", ["stem", "stage1", "stage2", "head"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_training_from_the_cache_equals_training_without_it(
    cut: str, optimizer: str, train: Dataset
) -> None:
    """Loss by loss, to the last bit."""
    one, other = (network(cut, Head(3, hidden=(6,), dropout=0.3)) for _ in range(2))
    kept = losses(train_on(one, cached(one, train), optimizer=optimizer))
    computed = losses(train_on(other, uncached(other, train), optimizer=optimizer))
    assert kept == computed
    for name, value in one.state().items():
        np.testing.assert_array_equal(value, other.state()[name])
    assert set(one.embedded.values()) == {1}
    assert other.embedded.total() > 3 * len(train.samples)


@pytest.mark.parametrize("cut", ["stem", "stage2", "head"])
def test_training_from_the_cache_equals_training_without_it_on_torch(
    cut: str, train: Dataset
) -> None:
    plan = Plan(fake.TINY, Head(3, hidden=(6,), dropout=0.3), seed=1)
    runs = []
    for make in (cached, uncached):
        net = torch_engine.build(plan)
        net.cut_at(resolve_cut(net.units, cut))
        runs.append(losses(train_on(net, make(net, train))))
    assert runs[0] == pytest.approx(runs[1], rel=1e-5)


def test_the_loss_falls_and_the_records_count(train: Dataset) -> None:
    net = network("stage1")
    records = list(train_on(net, cached(net, train), epochs=8))
    assert [record.epoch for record in records] == list(range(1, 9))
    assert records[-1].train_loss < 0.8 * records[0].train_loss
    assert all(record.valid_loss is None for record in records)
    assert all(record.seconds > 0 for record in records)


def test_the_rate_follows_the_schedule_through_all_steps(train: Dataset) -> None:
    net = network("stage2")
    given: list[dict[str, float]] = []
    step = net.step

    def watched(x: Array, y: Any, rates: Any, weights: Any = None) -> float:
        given.append(dict(rates))
        return step(x, y, rates, weights)

    net.step = watched  # type: ignore[method-assign]
    records = list(train_on(net, cached(net, train), epochs=3, lr=0.1, schedule="step"))
    steps = len(given) // 3
    assert [row["head"] for row in given[::steps]] == pytest.approx([0.1, 0.01, 0.001])
    assert all(row["stage2"] == pytest.approx(0.3 * row["head"]) for row in given)
    assert [record.lr for record in records] == pytest.approx([0.1, 0.01, 0.001])


def test_the_mean_loss_is_an_examples(train: Dataset) -> None:
    """A small last batch counts by its size."""
    net = network()
    size = 6
    assert len(train.samples) % size > 1
    options = {"batch_size": size, "optimizer": "sgd", "weight_decay": 0.0}
    examples = cached(net, train, **options)
    x, y = (np.concatenate(part) for part in zip(*examples.epoch(0), strict=True))
    wanted, _ = fake.cross_entropy(net.logits(x), y, None, 0.0)
    (record,) = train_on(net, examples, epochs=1, lr=1e-9, **options)
    assert record.train_loss == pytest.approx(wanted, rel=1e-5)


def test_a_rate_that_is_too_high_is_named_and_a_lower_one_proposed(train: Dataset) -> None:
    net = network("stem", Head(3, hidden=(6,)))
    with pytest.raises(TrainingError, match=r"loss became .* learning rate 1e\+30.*lr=1e\+29"):
        list(train_on(net, cached(net, train), lr=1e30, optimizer="sgd", schedule="constant"))


def test_weights_that_are_lost_in_the_last_step_do_not_become_a_result(train: Dataset) -> None:
    """No loss follows the last step that could tell."""
    net = network()
    step = net.step

    def fatal(*given: Any) -> float:
        loss = step(*given)
        net.tensors["classifier.bias"][0] = np.inf
        return loss

    net.step = fatal  # type: ignore[method-assign]
    everything = cached(net, train, batch_size=100)
    with pytest.raises(TrainingError, match="weights became infinite in epoch 1 at the learning"):
        list(train_on(net, everything, epochs=1, batch_size=100))


def test_a_validation_loss_that_is_no_number_is_told(train: Dataset) -> None:
    net = network()
    features = Features((16,), 3, lambda _: np.full((3, 16), 3e38, np.float32))
    net.tensors["classifier.weight"][...] = 1e3
    check = partial(validate, net, features, np.array([0, 1, 2]), 3)
    records = run_phase(
        net, Phase(net.cut, 1, 1e-9), cached(net, train), check, Options(batch_size=4), None,
        Timer(), number=1, before=0,
    )  # fmt: skip
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="validation loss became"):
        next(records)


def test_whoever_iterates_may_cease(train: Dataset) -> None:
    net = network()
    records = train_on(net, cached(net, train), epochs=100)
    assert next(records).epoch == 1
    records.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_validation_is_log_loss_and_accuracy_for_any_batch_size(
    batch_size: int, train: Dataset
) -> None:
    net = network()
    features = Maker(net, PLAIN, Options(), NOWHERE, Timer(), Notes()).validation(train)
    labels = labels_of(train)
    logits = net.logits(features.take(range(features.count)))
    loss, accuracy = validate(net, features, labels, batch_size)
    assert loss == pytest.approx(fake.cross_entropy(logits, labels, None, 0.0)[0], rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).mean())


def test_another_seed_is_another_order(train: Dataset) -> None:
    def run(seed: int) -> list[float]:
        net = network()
        return losses(train_on(net, cached(net, train, seed=seed), seed=seed))

    assert run(1) == run(1) != run(2)
