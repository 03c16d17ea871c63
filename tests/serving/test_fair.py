"""Turns and shares among clients."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future, wait
from functools import partial

import pytest

from pyflux_transfer.serving.fair import FairThreads, LargeError, Turns
from tests.serving.harness import until


def drained(turns: Turns[str]) -> str:
    return "".join(turns.pop() for _ in range(len(turns)))


def test_clients_take_turns_and_so_do_their_requests() -> None:
    turns: Turns[str] = Turns()
    for client, request, items in (("a", 1, "AAAA"), ("a", 2, "aa"), ("b", 3, "BB")):
        for item in items:
            turns.push(client, request, item)
    assert drained(turns) == "ABaBAaAA"
    with pytest.raises(KeyError):
        turns.pop()


def test_a_request_that_is_given_up_leaves_the_queue() -> None:
    turns: Turns[str] = Turns()
    for client, request, item in (("a", 1, "A"), ("a", 2, "x"), ("a", 2, "x"), ("b", 3, "x")):
        turns.push(client, request, item)
    assert turns.discard(2) == ["x", "x"]
    assert turns.discard(3) == ["x"]
    assert turns.discard(4) == []
    assert drained(turns) == "A"


class Gate:
    """Jobs that wait for the gate, and the order in which jobs began."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.order: list[str] = []

    def held(self, name: str) -> None:
        self.order.append(name)
        self.open.wait(5)

    def free(self, name: str) -> None:
        self.order.append(name)


def test_a_newcomer_is_before_the_queue_of_who_has_had_more() -> None:
    threads, gate = FairThreads(0), Gate()
    jobs: list[Future[None]] = [threads.submit("busy", False, gate.held, "first")]
    until(lambda: gate.order)
    jobs += [threads.submit("busy", False, gate.free, "busy") for _ in range(5)]
    jobs.append(threads.submit("new", False, gate.free, "new"))
    gate.open.set()
    wait(jobs, 5)
    threads.close()
    assert gate.order == ["first", "new", *["busy"] * 5]


def test_large_jobs_leave_a_thread_to_small_ones() -> None:
    threads, gate = FairThreads(1), Gate()
    large = [threads.submit("a", True, gate.held, "large") for _ in range(3)]
    small = threads.submit("b", False, gate.free, "small")
    small.result(5)
    assert gate.order.count("large") == 1
    gate.open.set()
    wait(large, 5)
    threads.close()
    assert gate.order.count("large") == 3


def test_errors_reach_the_caller_and_the_end_drops_what_waits() -> None:
    threads, gate = FairThreads(0), Gate()
    with pytest.raises(ZeroDivisionError):
        threads.submit("a", False, lambda: 1 / 0).result(5)
    held = threads.submit("a", False, gate.held, "held")
    until(lambda: gate.order)
    dropped = threads.submit("a", False, gate.free, "dropped")
    threads.close()
    assert dropped.cancelled()
    gate.open.set()
    held.result(5)
    assert threads.submit("a", False, gate.free, "late").cancelled()
    assert gate.order == ["held"]


def test_small_jobs_do_not_wait_behind_large_ones_of_their_own_client() -> None:
    threads, gate = FairThreads(1), Gate()
    large = [threads.submit("a", True, gate.held, "large") for _ in range(3)]
    threads.submit("a", False, gate.free, "small").result(5)
    assert gate.order.count("large") <= 1
    gate.open.set()
    wait(large, 5)
    threads.close()


def test_jobs_that_turn_out_to_be_large_leave_a_thread_to_small_ones() -> None:
    threads, gate, looks = FairThreads(2), Gate(), list[int]()

    def look(number: int) -> None:
        looks.append(number)
        raise LargeError(partial(gate.held, f"large {number}"))

    large = [threads.submit("a", False, look, number) for number in range(9)]
    for client in ("a", "b"):
        threads.submit(client, False, gate.free, client).result(5)
    until(lambda: len(looks) == 9)
    assert len([name for name in gate.order if name.startswith("large")]) == 2
    gate.open.set()
    done, late = wait(large, 5)
    threads.close()
    assert not late
    assert [job.exception() for job in done] == [None] * 9
    assert sorted(looks) == list(range(9))


def test_the_end_drops_what_was_put_off() -> None:
    threads, gate = FairThreads(1), Gate()

    def look() -> None:
        raise LargeError(partial(gate.held, "large"))

    large = [threads.submit("a", False, look) for _ in range(3)]
    until(lambda: gate.order)
    threads.submit("a", False, gate.free, "small").result(5)  # so the others were looked at
    threads.close()
    gate.open.set()
    done, late = wait(large, 5)
    assert not late
    assert sum(isinstance(job.exception(), CancelledError) for job in done) == 2
