"""What glibc keeps, in processes of their own: it cannot be undone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from pyflux_transfer.engines.torch import allocator

# Page faults of thirty results of 40 MB that a thread makes and frees.
_PROGRAM = """
import resource, threading
import numpy as np
from pyflux_transfer.engines.torch.allocator import keep_memory

def work(count):
    for _ in range(count):
        np.ones(10 << 20, np.float32)

def run():
    work(3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work(30)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

kept, faults = keep_memory(), []
thread = threading.Thread(target=run)
thread.start()
thread.join()
print(int(kept), *faults)
"""


def measured(**environment: str) -> tuple[bool, int]:
    """Return whether memory is kept, and the page faults."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(allocator._CHOSEN)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**own, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    kept, faults = map(int, done.stdout.split())
    return bool(kept), faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is glibc's")
def test_what_a_thread_frees_is_used_again() -> None:
    kept, faults = measured()
    assert kept
    _, usual = measured(MALLOC_ARENA_TEST="8")  # glibc's default, but somebody's choice
    assert faults < usual / 10


# Resident MiB after four threads, one after another, made 64 MiB of small blocks each and freed
# all but the last: before and after giving back.
_SHARED = """
import ctypes, re, threading
from pathlib import Path
from pyflux_transfer.engines.torch import allocator

{call}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
turn = [threading.Event() for _ in range(4)]

def work(number):
    blocks = [libc.malloc(1 << 16) for _ in range(1 << 10)]
    for block in blocks:
        ctypes.memset(block, 1, 1 << 16)
    for block in blocks[:-1]:
        libc.free(block)
    turn[number].set()
    stop.wait()

def resident():
    return int(re.search("VmRSS:[^0-9]*([0-9]+)", Path("/proc/self/status").read_text())[1])

stop, before = threading.Event(), resident()
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for thread, done in zip(threads, turn):
    thread.start()
    done.wait()
freed = resident() - before
allocator.give_back()
print(freed >> 10, (resident() - before) >> 10)
stop.set()
"""


def resident_mib(call: str) -> tuple[int, int]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(allocator._CHOSEN)}
    done = subprocess.run(
        [sys.executable, "-c", _SHARED.replace("{call}", call)],
        env=own, capture_output=True, text=True, check=True,
    )  # fmt: skip
    kept, given_back = map(int, done.stdout.split())
    return kept, given_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is glibc's")
def test_threads_use_what_others_freed_and_what_is_free_can_be_given_back() -> None:
    apart, _ = resident_mib("")
    shared, given_back = resident_mib("allocator.share_heaps()")
    assert apart > 3 * 60
    assert given_back < 20 < shared < apart / 2


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD"])
def test_what_somebody_has_set_up_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert not allocator.keep_memory()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_memory()
