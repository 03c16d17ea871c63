"""The worker's loop, without a process."""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Any

import numpy as np
import pytest

from pyflux_transfer.data.memory import anonymous_memory
from pyflux_transfer.errors import EngineError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.serving.ring import Layout, Ring
from pyflux_transfer.serving.worker import Answerer, Job, PipeInbox, batches, compute, serve

LATER = 1e9


@pytest.fixture
def ring() -> Ring:
    return Ring(anonymous_memory(), Layout(slots=8, crop=2, numbers=2))


class Script:
    """An inbox and a clock in one: jobs arrive at set times, and waiting moves the time."""

    def __init__(self, *arrivals: tuple[float, Job | None]) -> None:
        self.arrivals = list(arrivals)
        self.now = 0.0

    def get(self, block: bool = True, timeout: float | None = None) -> Job | None:
        at, job = self.arrivals[0]
        until = self.now if not block else LATER if timeout is None else self.now + timeout
        if at > until:
            self.now = until
            raise queue.Empty
        self.now = max(self.now, at)
        self.arrivals.pop(0)
        return job


def job(slot: int, at: float, deadline: float = LATER) -> tuple[float, Job]:
    return at, Job(slot, at, deadline)


def run(script: Script, size: int = 4, window_s: float = 5.0, coming: int = 1) -> list[list[int]]:
    found = batches(script, size, window_s, lambda: coming, lambda: script.now)
    return [[job.slot for job in batch] for batch in found]


END = (LATER, None)


def test_a_full_batch_closes_at_once() -> None:
    script = Script(job(0, 0), job(1, 0), job(2, 1), job(3, 2), END)
    batch = next(batches(script, 4, 5.0, lambda: 1, lambda: script.now))
    assert [j.slot for j in batch] == [0, 1, 2, 3]
    assert script.now == 2


def test_the_window_starts_with_the_first_job() -> None:
    script = Script(job(0, 1), job(1, 3), job(2, 5.9), job(3, 6.1), END)
    assert run(script) == [[0, 1, 2], [3]]


def test_a_job_that_waited_for_a_busy_worker_waits_no_longer() -> None:
    script = Script(job(0, 0), job(1, 0), job(2, 11), END)
    script.now = 10.0
    assert run(script) == [[0, 1], [2]]


def test_nothing_is_waited_for_when_nothing_is_coming() -> None:
    script = Script(job(0, 0), job(1, 0), job(2, 0.001), END)
    batch = next(batches(script, 4, 5.0, lambda: 0, lambda: script.now))
    assert [j.slot for j in batch] == [0, 1]
    assert script.now == 0


def test_a_window_of_zero_still_takes_what_is_there() -> None:
    assert run(Script(job(0, 0), job(1, 0), job(2, 1), END), window_s=0.0) == [[0, 1], [2]]


def test_the_window_ends_at_the_oldest_deadline() -> None:
    assert run(Script(job(0, 0), job(1, 1, 2.0), job(2, 2.5), END)) == [[0, 1], [2]]


def test_the_end_gives_out_what_is_left() -> None:
    assert run(Script(job(0, 0), (0, None))) == [[0]]


def halves(images: Array) -> Array:
    return np.full((len(images), 2), 0.5, np.float32)


def test_one_failing_image_is_not_its_neighbours_error(ring: Ring) -> None:
    ring.images[3] = 7

    def predict(images: Array) -> Array:
        if (images == 7).any():
            raise RuntimeError("seven")
        return halves(images)

    assert compute(predict, ring, [1, 3, 5]) == {3: "RuntimeError: seven"}
    assert ring.answers[[1, 5]].tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_probabilities_that_are_no_numbers_are_an_error(ring: Ring) -> None:
    errors = compute(lambda images: halves(images) * np.nan, ring, [2])
    assert "not finite" in errors[2]


def serving(ring: Ring, predict: Any, *jobs: Job, lanes: int = 1) -> list[dict[str, Any]]:
    """Serve jobs in batches of two."""
    inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    for each in (*jobs, None):
        inbox.put(each)
    replies: list[dict[str, Any]] = []
    found = batches(inbox, 2, 0.0, lambda: 0)
    serve(found, Answerer(replies.append, ring, predict), lanes)
    return replies


def jobs(count: int) -> list[Job]:
    return [Job(slot, 0, LATER) for slot in range(count)]


def test_serve_replies_to_every_job_and_skips_the_abandoned(ring: Ring) -> None:
    ring.abandoned[1] = 1
    seen: list[int] = []

    def predict(images: Array) -> Array:
        seen.append(len(images))
        return halves(images)

    replies = serving(ring, predict, *jobs(3))
    assert [reply["slots"] for reply in replies] == [[0, 1], [2]]
    assert seen == [1, 1]
    assert all(reply["finished"] >= reply["started"] for reply in replies)


@pytest.mark.parametrize("lanes", [1, 2])
def test_serve_gives_up_on_an_engine_that_always_fails(ring: Ring, lanes: int) -> None:
    def predict(_: Array) -> Array:
        raise RuntimeError("device lost")

    with pytest.raises(EngineError, match="3 batches in a row failed: RuntimeError: device lost"):
        serving(ring, predict, *jobs(8), lanes=lanes)


def test_lanes_have_a_batch_each_and_no_more(ring: Ring) -> None:
    both = threading.Barrier(2)
    here: list[int] = []
    most: list[int] = []

    def predict(images: Array) -> Array:
        here.append(1)
        both.wait(5)  # broken, and the batch an error, unless two are under way
        most.append(len(here))
        here.pop()
        return halves(images)

    replies = serving(ring, predict, *jobs(8), lanes=2)
    assert sorted(slot for reply in replies for slot in reply["slots"]) == list(range(8))
    assert [reply["errors"] for reply in replies] == [{}] * 4
    assert max(most) == 2


def test_one_lane_is_the_calling_thread(ring: Ring) -> None:
    seen: list[int] = []

    def predict(images: Array) -> Array:
        seen.append(threading.get_ident())
        return halves(images)

    serving(ring, predict, *jobs(4))
    assert set(seen) == {threading.get_ident()}


def test_an_idle_worker_uses_no_processor_time(ring: Ring) -> None:
    reading, writing = os.pipe()
    found = batches(PipeInbox(reading), 4, 0.005, lambda: 0)
    answer = Answerer(lambda _: None, ring, halves)
    thread = threading.Thread(target=serve, args=(found, answer, 2))
    thread.start()
    before = time.process_time()
    time.sleep(0.5)
    spent = time.process_time() - before
    os.close(writing)
    thread.join(5)
    assert not thread.is_alive()
    assert spent < 0.05


def test_jobs_come_through_a_pipe_whatever_the_pieces() -> None:
    reading, writing = os.pipe()
    inbox = PipeInbox(reading)
    with pytest.raises(queue.Empty):
        inbox.get(False)
    began = time.monotonic()
    with pytest.raises(queue.Empty):
        inbox.get(True, 0.05)
    assert 0.04 < time.monotonic() - began < 1
    lines = b'{"slots": [3, 1], "submitted": 1.5, "deadline": 2.5}\n' * 2
    thread = threading.Thread(target=lambda: [os.write(writing, bytes([b])) for b in lines])
    thread.start()
    assert [inbox.get().slot for _ in range(4)] == [3, 1, 3, 1]
    thread.join()
    os.write(writing, lines + b'{"slots": [5], "cut o')
    os.close(writing)
    jobs = [inbox.get() for _ in range(5)]
    assert jobs == [Job(3, 1.5, 2.5), Job(1, 1.5, 2.5)] * 2 + [None]
    assert inbox.get() is None
    os.close(reading)
