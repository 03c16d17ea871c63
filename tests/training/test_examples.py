from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer.data.dataset import Dataset, Sample
from pyflux_transfer.data.preprocess import load
from pyflux_transfer.engines.base import Labels
from pyflux_transfer.networks.preprocessing import FITS, Fit
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.callbacks import Timer
from pyflux_transfer.training.examples import (
    Cached,
    Examples,
    Live,
    Maker,
    labels_of,
    shuffled,
    steps_an_epoch,
)
from pyflux_transfer.training.features import Cache, Features, Item
from pyflux_transfer.training.options import Options
from tests.engines import fake
from tests.training.helpers import NOWHERE, CountingNetwork, Notes, datasets, network

PLAIN = fake.TINY.preprocessing


@pytest.fixture
def train(tmp_path: Path) -> Dataset:
    return datasets(tmp_path / "photos")[0]


def maker(net: CountingNetwork, cache: Cache = NOWHERE, **options: Any) -> Maker:
    return Maker(net, PLAIN, Options(**{"batch_size": 4, **options}), cache, Timer(), Notes())


def epochs(examples: Examples, *numbers: int) -> list[tuple[Array, Labels]]:
    return [batch for number in numbers for batch in examples.epoch(number)]


def assert_equal(one: list[tuple[Array, Labels]], other: list[tuple[Array, Labels]]) -> None:
    assert len(one) == len(other)
    for (x, y), (u, v) in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 33])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_an_epoch_is_each_example_once_but_for_a_lonely_last(count: int, batch_size: int) -> None:
    options = Options(batch_size=batch_size)
    batches = list(shuffled(count, options, 0))
    seen = np.concatenate(batches)
    lonely = count > 1 and batch_size > 1 and count % batch_size == 1
    assert len(seen) == len(set(seen.tolist())) == count - lonely
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert steps_an_epoch(count, options) == len(batches)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(list(shuffled(30, Options(seed=seed), epoch))).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_every_example_is_left_out_at_some_time_and_none_for_ever() -> None:
    options = Options(batch_size=4)
    left = [set(range(5)) - set(np.concatenate(list(shuffled(5, options, n)))) for n in range(60)]
    assert all(len(one) == 1 for one in left)
    assert set.union(*left) == set(range(5))


@pytest.mark.parametrize("cut", ["stem", "stage1", "stage2", "head"])
def test_kept_features_equal_those_computed_each_time(cut: str, train: Dataset) -> None:
    """The cache changes nothing but the time, to the last bit."""
    net = network(cut)
    made = maker(net)
    live = Live(
        [Item(sample) for sample in train.samples],
        lambda item, _: load(item.sample.path, PLAIN),
        net, made.options, Timer(),
    )  # fmt: skip
    kept = made.training(train)
    assert isinstance(kept, Cached)
    assert kept.count == live.count == len(train.samples)
    for (x, y), (u, v) in zip(epochs(kept, 0, 1, 2), epochs(live, 0, 1, 2), strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


@pytest.mark.parametrize("fit", FITS)
def test_images_are_fitted_in_training_as_in_prediction(fit: Fit, tmp_path: Path) -> None:
    path = tmp_path / "wide.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 170, 3), np.uint8)).save(path)
    sample = Sample(path, 0, hashlib.sha256(path.read_bytes()).hexdigest())
    plain = PLAIN.sized(fit=fit)
    made = replace(maker(network("stem")), preprocessing=plain)
    dataset = Dataset((sample,), ("a",))
    expected = load(path, plain)
    for found in (made.plain(dataset), made.validation(dataset)):
        np.testing.assert_array_equal(found.take([0])[0], expected)
    augmented = replace(made, options=Options(augment="flip", views=2)).training(dataset)
    for x, _ in epochs(augmented, 0, 1, 2):
        assert any(np.array_equal(x[0], one) for one in (expected, expected[..., ::-1]))


def test_without_augmentation_each_image_passes_once(train: Dataset) -> None:
    net = network("stage1")
    epochs(maker(net).training(train), *range(10))
    assert set(net.embedded.values()) == {1}
    assert len(net.embedded) == len(train.samples)


def test_live_augmentation_differs_each_epoch_and_repeats_itself(train: Dataset) -> None:
    def run(net: CountingNetwork) -> Examples:
        return maker(net, augment="strong", workers=3).training(train)

    net = network("stage1")
    examples = run(net)
    assert isinstance(examples, Live)
    first = epochs(examples, 0, 1)
    assert_equal(first, epochs(run(network("stage1")), 0, 1))
    assert (
        net.embedded.total()
        == len(net.embedded)
        == 2 * (len(train.samples) - (len(train.samples) % 4 == 1))
    )


def test_live_augmentation_is_the_same_for_any_number_of_workers(train: Dataset) -> None:
    runs = [maker(network(), augment="light", workers=n).training(train) for n in (1, 4)]
    assert_equal(epochs(runs[0], 3), epochs(runs[1], 3))


@pytest.mark.parametrize("views", [1, 2, 5])
def test_views_pass_the_trunk_once_each_whatever_the_epochs(views: int, train: Dataset) -> None:
    net = network("stage1")
    examples = maker(net, augment="strong", views=views).training(train)
    assert isinstance(examples, Cached)
    assert examples.views == views
    epochs(examples, *range(8))
    assert net.embedded.total() == len(net.embedded) == views * len(train.samples)


def test_each_epoch_draws_a_view_of_its_images(train: Dataset) -> None:
    count, views = len(train.samples), 3
    features = Features((1,), 3 * count, lambda rows: np.asarray(rows, np.float32)[:, None])
    examples = Cached(features, np.arange(count), Options(batch_size=4))
    drawn: list[set[int]] = [set() for _ in range(count)]
    for x, y in epochs(examples, *range(40)):
        assert (x[:, 0].astype(int) // views == y).all()
        for row, image in zip(x[:, 0].astype(int) % views, y, strict=True):
            drawn[image].add(int(row))
    assert all(found == {0, 1, 2} for found in drawn)
    assert_equal(epochs(examples, 5), epochs(examples, 5))


def test_views_are_kept_between_runs_by_augmentation_and_seed(
    train: Dataset, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "kept")

    def passes(**options: Any) -> int:
        net = network("stage1")
        maker(net, cache, **options).training(train)
        return net.embedded.total()

    count = len(train.samples)
    assert passes(augment="light", views=2) == 2 * count
    assert passes(augment="crop,flip", views=2) == 0  # the same set by other names
    assert passes(augment="light", views=3) == count
    assert passes(augment="light", views=2, seed=1) == 2 * count
    assert passes(augment="flip", views=2) == 2 * count
    assert passes() == count


def test_validation_is_never_augmented(train: Dataset) -> None:
    plain = maker(network("stem")).validation(train)
    augmented = maker(network("stem"), augment="strong", views=2).validation(train)
    rows = range(len(train.samples))
    np.testing.assert_array_equal(plain.take(rows), augmented.take(rows))


def test_time_is_told_apart(train: Dataset) -> None:
    made = maker(network("stage1"), augment="light")
    epochs(made.training(train), 0)
    assert set(made.timer.seconds) == {"decode", "trunk"}


def test_a_live_epoch_that_is_given_up_ends_its_threads(train: Dataset) -> None:
    batches: Iterator[Any] = maker(network(), augment="light").training(train).epoch(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]


def test_labels(train: Dataset) -> None:
    labels = labels_of(train)
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == list(train.counts.values())


def test_features_further_on_are_the_same_and_no_photo_passes_twice(
    train: Dataset, tmp_path: Path
) -> None:
    net = network()
    straight = maker(net).plain(train)
    net.embedded.clear()
    made, end = maker(net, Cache(tmp_path / "cache")), net.cut
    onward = made.onward(train, 1)
    assert net.cut == end
    rows = range(straight.count)
    np.testing.assert_array_equal(onward.take(rows), straight.take(rows))
    net.cut_at(1)
    made.plain(train)
    assert set(net.embedded.values()) == {1}
