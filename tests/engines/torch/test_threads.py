"""Batches spread over threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pyflux_transfer.engines.torch import allocator
from pyflux_transfer.engines.torch.threads import chunk, spread


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(usual)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12, 13, 50])
def test_all_images_are_computed_once_and_in_order(count: int) -> None:
    x = torch.arange(count * 6.0).reshape(count, 2, 3)
    sizes: list[int] = []

    def double(part: Tensor) -> Tensor:
        sizes.append(len(part))
        return 2 * part

    assert torch.equal(spread(double, x), 2 * x)
    assert sum(sizes) == count
    assert max(sizes) <= chunk()


def test_each_part_is_computed_by_one_thread_and_the_callers_number_stays() -> None:
    seen: list[tuple[int, int]] = []

    def look(part: Tensor) -> Tensor:
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return part

    for _ in range(3):
        spread(look, torch.zeros(24, 1))
        assert torch.get_num_threads() == 3
    assert {number for _, number in seen} == {1}
    assert threading.get_ident() not in {thread for thread, _ in seen}
    late: list[int] = []
    thread = threading.Thread(target=lambda: late.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert late == [3]


def test_one_image_is_shared_by_all_threads() -> None:
    seen: list[int] = []

    def look(part: Tensor) -> Tensor:
        seen.append(torch.get_num_threads())
        return part

    spread(look, torch.zeros(1, 1))
    assert seen == [3]


def test_calls_at_a_time_share_the_threads() -> None:
    inside, leave = threading.Event(), threading.Event()
    sizes: list[int] = []

    def hold(part: Tensor) -> Tensor:
        inside.set()
        leave.wait(5)
        return part

    def measure(part: Tensor) -> Tensor:
        sizes.append(len(part))
        return part

    first = threading.Thread(target=spread, args=(hold, torch.zeros(1, 1)))
    first.start()
    assert inside.wait(5)
    spread(measure, torch.zeros(9, 1))  # with the other's image, a third is 4
    leave.set()
    first.join()
    assert sorted(sizes) == [1, 4, 4]
    sizes.clear()
    spread(measure, torch.zeros(9, 1))
    assert sorted(sizes) == [1, 1, 1, 2, 2, 2]  # powers of two, the same for every thread


def test_only_the_main_thread_asks_others_to_share_an_image() -> None:
    seen: list[int] = []

    def look(part: Tensor) -> Tensor:
        seen.append(torch.get_num_threads())
        return part

    thread = threading.Thread(target=spread, args=(look, torch.zeros(1, 1)))
    thread.start()
    thread.join()
    assert seen == [1]


@pytest.mark.parametrize(("kept", "expected"), [(False, [4] * 5), (True, [8, 8, 4])])
def test_one_thread_computes_some_images_at_a_time(
    kept: bool, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them where memory is kept."""
    monkeypatch.setattr(allocator, "_kept", kept)
    torch.set_num_threads(1)
    sizes: list[int] = []

    def measure(part: Tensor) -> Tensor:
        sizes.append(len(part))
        return 2 * part

    x = torch.arange(20.0).reshape(20, 1)
    assert torch.equal(spread(measure, x), 2 * x)
    assert sizes == expected


def test_an_error_comes_back() -> None:
    def fail(part: Tensor) -> Tensor:
        raise ValueError(f"{len(part)} images")

    with pytest.raises(ValueError, match="images"):
        spread(fail, torch.zeros(9, 1))
