"""One thread does all, in order, whoever asks; no Julia is needed for that."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from pyflux_transfer.engines.flux.owner import Owner


def test_every_thread_is_served_by_the_same_one() -> None:
    owner = Owner("one")
    with ThreadPoolExecutor(4) as pool:
        threads = set(pool.map(lambda _: owner.run(threading.get_ident), range(20)))
    assert threads == {owner.run(threading.get_ident)}
    assert threads != {threading.get_ident()}


def test_the_stack_is_its_own() -> None:
    usual = threading.stack_size()
    assert Owner("deep", 1 << 26).run(lambda: 1) == 1
    assert threading.stack_size() == usual


def test_what_asks_from_inside_is_done_at_once() -> None:
    owner = Owner("one")
    assert owner.run(lambda: owner.run(lambda: 3)) == 3


def test_errors_arrive_without_the_frames_that_raised_them() -> None:
    class Held:
        pass

    dropped: list[weakref.ref[Held]] = []

    def work() -> None:
        held = Held()
        dropped.append(weakref.ref(held))
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from None

    owner = Owner("one")
    with pytest.raises(ValueError, match="outer") as caught:
        owner.run(work)
    assert caught.value.__context__ is None
    gc.collect()
    assert dropped[0]() is None
    assert owner.run(lambda: 1) == 1


def test_nothing_of_a_job_is_kept() -> None:
    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)
    owner = Owner("one")
    owner.run(partial(id, held))
    del held
    owner.run(lambda: None)
    gc.collect()
    assert gone() is None


def test_a_wait_that_ends_drops_what_has_not_begun() -> None:
    owner = Owner("one")
    going, done = threading.Event(), []
    first = threading.Thread(target=lambda: owner.run(lambda: going.wait(10)))
    first.start()
    with pytest.raises(TimeoutError, match=r"The one thread was busy for 0\.05 s"):
        owner.run(lambda: done.append("dropped"), 0.05)
    going.set()
    first.join()
    owner.run(lambda: done.append("kept"))
    assert done == ["kept"]


INTERRUPTED = """
import signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from pyflux_transfer.engines.flux.owner import Owner
owner, going, order = Owner("one"), threading.Event(), []
def work():
    print("ready", flush=True)
    going.wait(20)
    order.append("first")
try:
    owner.run(work)
except KeyboardInterrupt:
    order.append("interrupted")
going.set()
owner.run(lambda: order.append("second"))
print(*order)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no POSIX signals")
def test_ctrl_c_is_heard_during_a_call_and_keeps_the_order() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert rest == "interrupted first second\n"
