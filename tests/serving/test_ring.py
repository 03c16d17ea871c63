from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pyflux_transfer.data.memory import anonymous_memory
from pyflux_transfer.serving.ring import Layout, Ring


def test_two_views_of_one_memory_see_each_other() -> None:
    descriptor, layout = anonymous_memory(), Layout(slots=3, crop=5, numbers=7)
    here, there = Ring(descriptor, layout), Ring(descriptor, layout)
    here.images[1] = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
    here.answers[2] = 0.25
    here.abandoned[2] = 1
    here.expect(3)
    here.expect(-1)
    assert there.images[1].sum() == 74 * 75 / 2
    assert there.answers[2].tolist() == [0.25] * 7
    assert there.abandoned.tolist() == [0, 0, 1]
    assert there.coming == 2
    os.close(descriptor)


def test_neighbouring_slots_do_not_overlap() -> None:
    ring = Ring(anonymous_memory(), Layout(slots=4, crop=3, numbers=2))
    for slot in range(4):
        ring.images[slot] = slot
        ring.answers[slot] = -slot
    assert [int(image.sum()) // 27 for image in ring.images] == [0, 1, 2, 3]
    assert ring.answers[:, 0].tolist() == [0, -1, -2, -3]
    assert not ring.abandoned.any()
    assert ring.coming == 0


def test_the_memory_has_no_name_and_is_freed_with_its_views() -> None:
    before = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").exists() else set()
    descriptor = anonymous_memory()
    ring = Ring(descriptor, Layout(slots=2, crop=64, numbers=2))
    os.close(descriptor)
    ring.images[:] = 1
    assert "pyflux-transfer" in Path("/proc/self/maps").read_text()
    del ring
    assert "pyflux-transfer" not in Path("/proc/self/maps").read_text()
    assert before == (set(Path("/dev/shm").iterdir()) if Path("/dev/shm").exists() else set())
