from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest

from pyflux_transfer.data.batches import Array, batches, map_ahead


@dataclass(frozen=True)
class Example:
    number: int
    label: int


def ahead_threads() -> int:
    return sum(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_results_come_in_order_whoever_is_first() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 4 == 0 else 0)
        return item * item

    results = list(map_ahead(slow_first, range(20), workers=4, ahead=8))
    assert results == [item * item for item in range(20)]


def test_nothing_gives_nothing() -> None:
    assert list(map_ahead(str, [], workers=2, ahead=2)) == []


def test_the_work_is_done_by_so_many_threads() -> None:
    both = threading.Barrier(3)

    def meet(_: int) -> str:
        both.wait(timeout=5)
        return threading.current_thread().name

    seen = set(map_ahead(meet, range(3), workers=3, ahead=3))
    assert len(seen) == 3


def test_it_runs_ahead_by_no_more_than_it_says() -> None:
    begun: list[int] = []
    results = map_ahead(begun.append, range(100), workers=2, ahead=5)
    next(results)
    patience = time.monotonic() + 10
    while len(begun) < 6 and time.monotonic() < patience:
        time.sleep(0.001)
    time.sleep(0.02)
    # Five under way or waiting behind the one that was taken.
    assert len(begun) == 6
    results.close()


def test_an_exception_surfaces_at_its_item_and_leaves_no_thread() -> None:
    def fail_at_three(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    seen = []
    with pytest.raises(ValueError, match="three"):
        seen.extend(map_ahead(fail_at_three, range(10), workers=2, ahead=4))
    results = map_ahead(fail_at_three, range(10), workers=2, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert ahead_threads() == 0


def test_a_consumer_that_stops_drops_what_has_not_begun() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.01)
        return item

    results = map_ahead(work, range(1000), workers=2, ahead=500)
    next(results)
    results.close()
    assert len(begun) < 100
    assert ahead_threads() == 0


def load(example: Example) -> Array:
    return np.full((3, 4, 5), example.number, np.float32)


EXAMPLES = [Example(number, label=number % 3) for number in range(10)]


@pytest.mark.parametrize("size", [1, 4, 5, 10, 64])
def test_batches_hold_every_image_and_label_in_order(size: int) -> None:
    made = list(batches(load, EXAMPLES, size, workers=2))
    assert [len(images) for images, _ in made[:-1]] == [min(size, 10)] * (len(made) - 1)
    for images, labels in made:
        assert images.shape == (len(labels), 3, 4, 5)
        assert images.dtype == np.float32
        assert labels.dtype == np.int64
        assert images.flags.c_contiguous
        assert (images == images[:, :1, :1, :1]).all()
    numbers = np.concatenate([images[:, 0, 0, 0] for images, _ in made])
    assert numbers.tolist() == list(range(10))
    labels = np.concatenate([labels for _, labels in made])
    assert labels.tolist() == [example.label for example in EXAMPLES]


def test_a_kept_batch_is_not_written_over() -> None:
    made = list(batches(load, EXAMPLES, 5, workers=2))
    assert not np.shares_memory(made[0][0], made[1][0])


def test_no_samples_give_no_batch() -> None:
    assert list(batches(load, [], 4, workers=2)) == []


def test_closing_batches_stops_the_threads() -> None:
    made = batches(load, EXAMPLES * 50, 4, workers=2)
    next(made)
    made.close()
    assert ahead_threads() == 0
