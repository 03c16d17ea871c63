from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training import rows
from pyflux_transfer.training.design import reduce
from pyflux_transfer.training.features import Features
from pyflux_transfer.training.logistic import Problem, solve
from pyflux_transfer.training.rows import Rows, workers
from pyflux_transfer.training.store import Store

WAIT_S = 60


def product_threads() -> list[int]:
    """Of each BLAS in this process."""
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def each(count: int) -> list[slice]:
    return [slice(i, i + 1) for i in range(count)]


def test_there_is_a_thread_a_core_and_products_have_none_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, "cores", lambda: 3)
    before, running = product_threads(), threading.active_count()
    together, seen = threading.Barrier(3, timeout=WAIT_S), set[str]()

    def work(where: slice) -> int:
        together.wait()  # breaks unless three threads come here at a time
        seen.add(threading.current_thread().name)
        return where.start

    with workers() as by:
        assert list(by.each(work, each(30))) == list(range(30))
        assert set(product_threads()) == {1}
    assert len(seen) == 3
    assert threading.active_count() == running
    assert product_threads() == before


def test_no_more_than_eight_threads_hold_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "cores", lambda: 64)
    with workers() as by:
        list(by.each(lambda where: where.start, each(500)))
        assert by.pool is not None
        assert by.pool._max_workers == rows.THREADS


def test_a_system_that_cannot_tell_the_allowed_cores_has_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, threads in ((1, 1), (4, 4), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        with workers() as by:
            assert (by.pool._max_workers if by.pool else 1) == threads


def test_two_that_ask_take_turns_and_leave_no_limit_behind() -> None:
    before, inside, most = product_threads(), list[int](), list[int]()

    def ask() -> None:
        with workers() as by:
            inside.append(1)
            most.append(len(inside))
            list(by.each(lambda where: where.start, each(50)))
            inside.pop()

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(WAIT_S)
    assert most == [1] * 4
    assert product_threads() == before


def test_work_that_fails_ends_the_threads() -> None:
    running = threading.active_count()
    with pytest.raises(ZeroDivisionError), workers() as by:
        list(by.each(lambda where: 1 // where.start, each(20)))
    assert threading.active_count() == running


def test_rows_on_disk_make_the_same_head_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "cores", lambda: 4)
    monkeypatch.setattr(rows, "BLOCK_ROWS", 16)
    monkeypatch.setattr(rows, "HELD_BYTES", 0)  # each pass reads a file
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 3, 2, 2)).astype(np.float32), rng.integers(4, size=300)
    keys, places = [bytes([i // 256, i % 256] * 16) for i in range(300)], rng.permutation(300)
    store, most = Store(tmp_path / "store", (3, 2, 2)), list[int]()
    store.append([keys[i] for i in places], x[places])

    def take(indices: range) -> Array:
        most.append(len(indices))
        return store.read([keys[i] for i in indices])

    kept = Features((3, 2, 2), 300, take)  # type: ignore[arg-type]
    found, wanted = (solve(Problem.of(reduce(of), y, 4), 1e-3) for of in (kept, x))
    store.close()
    np.testing.assert_array_equal(found.weight, wanted.weight)
    np.testing.assert_array_equal(found.bias, wanted.bias)
    assert max(most) < 100


def test_rows_are_kept_in_a_file_as_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK_ROWS", 16)
    x = np.random.default_rng(0).normal(size=(100, 7)).astype(np.float32)
    found = []
    for limit in (x.nbytes, x.nbytes - 1):
        monkeypatch.setattr(rows, "HELD_BYTES", limit)
        with workers() as by:
            found.append(rows.kept(Rows.of(x), lambda where: 2.0 * x[where], by))
    memory, file = found
    assert np.shares_memory(memory.read(slice(0, 2)), memory.read(slice(1, 3)))
    assert not np.shares_memory(file.read(slice(0, 2)), file.read(slice(1, 3)))
    for where in (slice(0, 100), slice(3, 50), slice(99, 100)):
        np.testing.assert_array_equal(memory.read(where), 2 * x[where])
        np.testing.assert_array_equal(file.read(where), 2 * x[where])
