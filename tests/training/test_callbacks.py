from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from pyflux_transfer.training.callbacks import Record, Silent, Timer


def record(epoch: int, loss: float | None = None, accuracy: float | None = None) -> Record:
    return Record(1, epoch, 1.0, loss, accuracy, 1e-3, 0.1)


def test_the_best_epoch_has_the_best_accuracy_then_the_least_loss() -> None:
    records = [record(1, 0.5, 0.8), record(2, 0.6, 0.9), record(3, 0.4, 0.9), record(4, 0.1, 0.7)]
    assert max(records, key=lambda r: r.score).epoch == 3


def test_without_validation_the_last_epoch_is_the_best() -> None:
    assert max([record(1), record(2)], key=lambda r: r.score).epoch == 2


def test_a_record_is_plain_data() -> None:
    one = record(2, 0.5, 0.75)
    assert Record(**json.loads(json.dumps(one.to_json()))) == one


def test_a_timer_adds_up_by_name_even_when_the_block_fails() -> None:
    timer = Timer()
    with timer.measure("a"):
        time.sleep(0.01)
    with pytest.raises(ZeroDivisionError), timer.measure("a"):
        time.sleep(0.01 / (1 - len(timer.seconds)))
    assert timer.seconds["a"] >= 0.01
    with timer.measure("a"):
        time.sleep(0.01)
    assert set(timer.seconds) == {"a"}
    assert 0.02 <= timer.seconds["a"] < 1


def test_waiting_times_what_comes_and_not_what_is_done_with_it() -> None:
    def slow() -> Iterator[int]:
        for i in range(3):
            time.sleep(0.01)
            yield i

    timer, seen = Timer(), []
    for item in timer.waiting("wait", slow()):
        seen.append(item)
        time.sleep(0.05)
    assert seen == [0, 1, 2]
    assert 0.03 <= timer.seconds["wait"] < 0.14


def test_silence() -> None:
    watcher = Silent()
    with watcher.bar("work", 3) as advance:
        advance(1)
    watcher.line("text")
    watcher.epoch(record(1), 1)
