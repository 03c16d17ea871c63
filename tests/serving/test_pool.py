"""The pool inside this process, with real workers: places, leases, memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.data.preprocess import normalise
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.serving.deployment import Plan
from pyflux_transfer.serving.metrics import Metrics
from pyflux_transfer.serving.pool import Pool
from pyflux_transfer.serving.problems import Problem
from pyflux_transfer.serving.process import Command
from tests.serving import loaders
from tests.serving.harness import write_bundle

SLOTS = 6
Test = Callable[[Pool, ThreadPoolExecutor], Coroutine[Any, Any, None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Test], None]:
    """Run a coroutine with a pool whose worker is ready."""
    bundle = write_bundle(tmp_path / "fake.json")

    async def main(test: Test) -> None:
        command = Command(loaders.NAME, bundle, {}, SLOTS, 4, 0.005, -1)
        pool = Pool(Plan(command, ({},), 5.0, 30.0), Metrics())
        await pool.current.settled.wait()
        with ThreadPoolExecutor(2) as threads:
            try:
                await test(pool, threads)
            finally:
                await pool.close(1.0)

    return lambda test: asyncio.run(main(test))


def picture(value: int) -> Pixels:
    image = np.full((8, 8, 3), 90, np.uint8)
    image[..., 0] = value  # a grey would be the same answer for every value
    return image


def fill(value: int) -> Callable[[Pixels], None]:
    def load(target: Pixels) -> None:
        target[...] = picture(value)

    return load


def truth(*values: int) -> Array:
    pictures = np.stack([picture(value) for value in values])
    return loaders.expected(normalise(pictures, loaders.PLAIN))


async def until(condition: Callable[[], object]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), 10)


def soon() -> float:
    return time.monotonic() + 5


async def send(pool: Pool, threads: ThreadPoolExecutor, *values: int) -> Array:
    with pool.admit(len(values)) as lease:
        work = [lease.fill(i, threads.submit, fill(v)) for i, v in enumerate(values)]
        await asyncio.gather(*work)
        rows, _ = await lease.submit(soon())
        return rows


def test_rows_come_back_in_the_order_of_the_places(run: Callable[[Test], None]) -> None:
    async def test(pool: Pool, threads: ThreadPoolExecutor) -> None:
        for _ in range(20):
            rows = await send(pool, threads, 30, 120, 230)
            assert np.allclose(rows, truth(30, 120, 230))
        assert pool.current.taken == 0
        assert pool.current.ring is not None
        assert pool.current.ring.coming == 0

    run(test)


def test_a_full_pool_refuses_and_counts_right(run: Callable[[Test], None]) -> None:
    async def test(pool: Pool, _: ThreadPoolExecutor) -> None:
        ring = pool.current.ring
        assert ring is not None
        with pool.admit(4):
            assert ring.coming == 4
            with pytest.raises(Problem, match="4 of 6 places are taken, 3 are needed"):
                pool.admit(3)
        assert (pool.current.taken, ring.coming) == (0, 0)
        with pool.admit(SLOTS):
            pass

    run(test)


def test_places_are_shared_when_others_want_some(run: Callable[[Test], None]) -> None:
    async def test(pool: Pool, _: ThreadPoolExecutor) -> None:
        with (
            pool.admit(5, "greedy"),
            pool.admit(1, "other"),
            pytest.raises(Problem, match="5 of 6 places, and 1 others"),
        ):
            pool.admit(1, "greedy")
        with pool.admit(3, "greedy"), pool.admit(1, "other"), pool.admit(2, "other"):
            assert pool.current.taken == 6
        with pool.admit(3, "alone"), pool.admit(3, "alone"):
            pass

    run(test)


def test_what_waits_in_a_deployment_that_is_replaced_is_told_so(
    run: Callable[[Test], None],
) -> None:
    async def test(pool: Pool, threads: ThreadPoolExecutor) -> None:
        with pool.admit(1) as lease, pool.admit(1) as late:
            await lease.fill(0, threads.submit, fill(120))
            pool.current.ready[0].kill("by the test")
            waiting = lease.submit(soon())
            closing = asyncio.create_task(pool.current.close(5))
            with pytest.raises(Problem) as caught:
                await waiting
            assert caught.value.code == "worker_lost"
            with pytest.raises(Problem):
                late.submit(soon())
        await closing
        pool.current = type(pool.current)(pool._plan, Metrics())
        await pool.current.settled.wait()

    run(test)


def test_a_thread_keeps_its_slot_when_the_request_is_gone(run: Callable[[Test], None]) -> None:
    async def test(pool: Pool, threads: ThreadPoolExecutor) -> None:
        gate, entered = threading.Event(), threading.Event()

        def slow(target: Pixels) -> None:
            entered.set()
            gate.wait()
            target[...] = picture(120)

        with pool.admit(2) as lease:
            decoding = lease.fill(0, threads.submit, slow)
            await until(entered.is_set)
            decoding.cancel()
        assert pool.current.taken == 1
        gate.set()
        await until(lambda: pool.current.taken == 0)

    run(test)


def test_a_cancelled_request_frees_its_slots_when_the_worker_is_done(
    run: Callable[[Test], None],
) -> None:
    async def test(pool: Pool, threads: ThreadPoolExecutor) -> None:
        hold = Path(f"{pool.current.plan.command.path}.hold")
        hold.touch()
        first = asyncio.create_task(send(pool, threads, 30))
        await until(lambda: any(worker.in_work for worker in pool.current.ready))
        second = asyncio.create_task(send(pool, threads, 50, 80))
        await until(lambda: sum(len(worker.in_work) for worker in pool.current.ready) == 3)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert pool.current.taken == 3  # the worker may still read them
        hold.unlink()
        await until(lambda: pool.current.taken == 0)
        assert np.allclose(await send(pool, threads, 180), truth(180))

    run(test)


def test_a_death_before_during_and_after_submission_loses_nothing(
    run: Callable[[Test], None],
) -> None:
    async def test(pool: Pool, threads: ThreadPoolExecutor) -> None:
        hold = Path(f"{pool.current.plan.command.path}.hold")

        async def killed_while_decoding() -> Array:
            with pool.admit(1) as lease:
                pool.current.ready[0].kill("by the test")
                await lease.fill(0, threads.submit, fill(120))
                return (await lease.submit(soon()))[0]

        async def killed_after_submission() -> Array:
            with pool.admit(1) as lease:
                await lease.fill(0, threads.submit, fill(120))
                hold.touch()  # or it might be quicker than the signal
                answer = lease.submit(soon())
                pool.current.ready[0].kill("by the test")
                hold.unlink()
                return (await answer)[0]

        async def killed_before() -> Array:
            pool.current.ready[0].kill("by the test")
            return await send(pool, threads, 120)

        for act in (killed_while_decoding, killed_after_submission, killed_before):
            assert np.allclose(await act(), truth(120))
            assert pool.current.taken == 0
        assert pool.current.ring is not None
        assert pool.current.ring.coming == 0

    run(test)


def test_a_request_given_up_while_no_worker_is_there_frees_its_places(
    run: Callable[[Test], None],
) -> None:
    async def test(pool: Pool, threads: ThreadPoolExecutor) -> None:
        pool.current.ready[0].kill("by the test")
        with pool.admit(2) as lease:
            for place in range(2):
                await lease.fill(place, threads.submit, fill(120))
            waiting = lease.submit(soon())
        assert waiting.cancelled()
        assert pool.current.taken == 0

    run(test)


def test_a_reload_survives_an_exception_and_is_tried_again(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(pool: Pool, _: ThreadPoolExecutor) -> None:
        def full() -> int:
            raise OSError(24, "Too many open files")

        old = pool.current
        with monkeypatch.context() as patch:
            patch.setattr("pyflux_transfer.serving.pool.AGAIN_S", 0.05)
            patch.setattr("pyflux_transfer.serving.deployment.anonymous_memory", full)
            pool.reload()
            await until(lambda: "Too many open files" in pool.status.reason)
            assert pool.status.state == "ready"
        await until(lambda: pool.current is not old)
        assert pool.status.reason == ""

    run(test)


def maps() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:pyflux-transfer")


def test_reloads_and_the_end_free_memory_descriptors_and_processes(
    run: Callable[[Test], None],
) -> None:
    gc.collect()  # what earlier tests left
    me = psutil.Process()
    before = (maps(), me.num_fds(), len(me.children()))

    async def test(pool: Pool, threads: ThreadPoolExecutor) -> None:
        await send(pool, threads, 120)
        files = me.num_fds()
        gc.disable()  # nothing may hang on the collection of cycles
        try:
            for _ in range(3):
                old = pool.current
                pool.reload()
                await until(lambda old=old: pool.current is not old)
                await send(pool, threads, 120)
                await until(lambda: maps() == before[0] + 1)
            await until(lambda: len(me.children()) == before[2] + 1)
            del old
            await until(lambda: me.num_fds() <= files)
        finally:
            gc.enable()

    run(test)
    gc.collect()
    assert (maps(), me.num_fds(), len(me.children())) == before
