from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer.data.dataset import Dataset, Sample
from pyflux_transfer.data.folds import bunches, folds
from pyflux_transfer.errors import InputError


def dataset(
    *counts: int, same: tuple[tuple[int, int], ...] = (), groups: Sequence[str | None] = ()
) -> Dataset:
    """Return photos of classes a, b, …; pairs of `same` are equal in content."""
    names = "abcdefgh"[: len(counts)]
    samples = [
        Sample(
            Path(f"/x/{names[label]}/{i}.png"), label, sha256(f"{label}/{i}".encode()).hexdigest()
        )
        for label, count in enumerate(counts)
        for i in range(count)
    ]
    for one, other in same:
        samples[other] = Sample(samples[other].path, samples[other].label, samples[one].digest)
    for i, group in enumerate(groups):
        samples[i] = replace(samples[i], group=group)
    return Dataset(tuple(samples), tuple(names))


def labels(data: Dataset) -> np.ndarray:
    return np.array([sample.label for sample in data.samples])


def test_every_photo_is_held_out_once_and_each_fold_has_its_share_of_every_class() -> None:
    data = dataset(23, 50, 7)
    found = folds(data)
    assert set(found) == {0, 1, 2, 3, 4}
    for label, count in enumerate((23, 50, 7)):
        sizes = np.bincount(found[labels(data) == label], minlength=5)
        assert sizes.sum() == count
        assert sizes.max() - sizes.min() <= 1
    assert np.ptp(np.bincount(found)) <= 1


@pytest.mark.parametrize(
    ("counts", "wanted"), [((9, 9), 5), ((9, 4), 4), ((9, 2), 2), ((2, 2), 2), ((9, 1, 3), 3)]
)
def test_a_small_class_makes_fewer_folds_a_single_photo_none(
    counts: tuple[int, ...], wanted: int
) -> None:
    data = dataset(*counts)
    found = folds(data)
    assert found.max() + 1 == wanted
    for label, count in enumerate(counts):
        assert (found[labels(data) == label] == -1).all() == (count == 1)


def test_where_each_class_has_one_photo_nothing_is_held_out() -> None:
    assert folds(dataset(1, 1)).tolist() == [-1, -1]


def test_photos_of_equal_content_stay_together_across_classes_too() -> None:
    pairs = ((0, 7), (1, 11), (2, 20))
    for seed in range(20):
        found = folds(dataset(10, 15, same=pairs), seed=seed)
        assert all(found[one] == found[other] for one, other in pairs)
        assert set(found) == {0, 1, 2, 3, 4}


def test_a_class_of_equal_photos_is_not_held_out() -> None:
    assert folds(dataset(6, 2, same=((6, 7),)))[6:].tolist() == [-1, -1]


def test_groups_stay_together() -> None:
    groups = [f"patient {i % 12}" for i in range(60)]
    found = folds(dataset(30, 30, groups=groups))
    assert set(found) == {0, 1, 2, 3, 4}
    for name in set(groups):
        assert len({fold for fold, group in zip(found, groups, strict=True) if group == name}) == 1


def test_bunches_number_the_photos_that_stay_together() -> None:
    found = bunches(dataset(3, 3, same=((0, 4),), groups=["x", "y", "x", None, None, "y"]))
    assert len(set(found)) == 2 + 1
    assert set(found) == {0, 1, 2}
    assert found[0] == found[2] == found[4]
    assert found[1] == found[5] != found[3]


def test_one_group_a_class_leaves_nobody_to_judge() -> None:
    assert set(folds(dataset(5, 5, groups=["x"] * 5 + ["y"] * 5))) == {-1}
    assert set(folds(dataset(5, 5, groups=["x"] * 10))) == {-1}


def test_photos_without_a_group_are_by_themselves() -> None:
    data = dataset(10, 10, groups=["x", "x", "x"] + 17 * [None])
    found = folds(data)
    assert len(set(found[:3])) == 1
    assert set(found) == {0, 1, 2, 3, 4}


def test_the_order_of_the_photos_does_not_matter_the_seed_does() -> None:
    data = dataset(12, 9, same=((0, 3),))
    places = list(range(21))
    random.Random(0).shuffle(places)
    mixed = Dataset(tuple(data.samples[i] for i in places), data.classes)
    np.testing.assert_array_equal(folds(mixed), folds(data)[places])
    np.testing.assert_array_equal(folds(data), folds(data))
    assert any((folds(data, seed=seed) != folds(data)).any() for seed in range(1, 4))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 folds, got 1"):
        folds(dataset(3, 3), count=1)
