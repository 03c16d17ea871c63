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


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD"])
def test_what_somebody_has_set_up_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert not allocator.keep_memory()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_memory()
