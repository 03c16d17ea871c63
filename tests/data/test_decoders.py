"""Decoding in processes: the same pixels, and an end for every photo."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from PIL import Image

from pyflux_transfer.data import apart, decode, guard
from pyflux_transfer.data import decoders as decoders_module
from pyflux_transfer.data.decoders import Budget, Decoders, HeavyError, Job
from pyflux_transfer.data.preprocess import load_pixels
from pyflux_transfer.errors import ImageError
from pyflux_transfer.networks.preprocessing import Preprocessing

PLAIN = Preprocessing(resize=40, crop=32)
JOB = Job.of(PLAIN, decode.MAX_PIXELS)


def photo(form: str, width: int = 200, height: int = 150, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, form)
    return stream.getvalue()


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(2)
    yield made
    made.close()


def idle(made: Decoders) -> int:
    """Return the process that the next photo goes to."""
    return made._idle[-1]._process.pid


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any("data.decoder" in word for word in child.cmdline()):
                found.append(child)
    return found


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_pixels_are_those_of_the_decoder_here(decoders: Decoders, form: str) -> None:
    data = photo(form)
    pixels = decoders.decode(data, JOB).pixels
    assert np.array_equal(pixels, load_pixels(data, PLAIN))
    into = np.zeros((32, 32, 3), np.uint8)
    decoders.decode(data, JOB, into)
    assert np.array_equal(into, pixels)


def test_a_whole_picture_keeps_its_size_and_box(decoders: Decoders) -> None:
    data = photo("JPEG", 1001, 803)
    found = decoders.decode(data, Job(decode.MAX_PIXELS, decode.WHITE, 50))
    here = decode.decode_picture(data, shorter_side=50)
    assert np.array_equal(found.pixels, np.asarray(here.image))
    assert found.box == here.box
    assert not found.mended


def test_the_reason_is_the_decoder_s(decoders: Decoders) -> None:
    with pytest.raises(ImageError, match=r"^it is not an image"):
        decoders.decode(b"nothing", JOB)
    with pytest.raises(ImageError, match="more than the limit of 100"):
        decoders.decode(photo("PNG"), Job(100, decode.WHITE))
    assert decoders.decode(photo("PNG"), JOB)[0].shape == (32, 32, 3)


def test_a_process_that_dies_is_replaced_and_the_photo_decoded_again() -> None:
    made = Decoders(1)
    try:
        made.start()
        os.kill(idle(made), signal.SIGKILL)
        assert made.decode(photo("PNG"), JOB)[0].shape == (32, 32, 3)
    finally:
        made.close()


@pytest.mark.parametrize(("number", "most"), [(signal.SIGSEGV, 2), (signal.SIGKILL, 4)])
def test_a_photo_that_ends_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, most: int
) -> None:
    def die(process: decoders_module._Decoder, *_: object) -> None:
        process._process.send_signal(number)
        raise process._death()

    made = Decoders(1)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(decoders_module._Decoder, "_decode", die)
            with pytest.raises(ImageError, match=f"ended {most} processes.*{number.name}"):
                made.decode(photo("PNG"), JOB)
        assert made.decode(photo("PNG"), JOB)[0].shape == (32, 32, 3)
    finally:
        made.close()


def test_a_process_that_cannot_be_started_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [OSError(24, "Too many open files")] * 2
    real = decoders_module.anonymous_memory
    monkeypatch.setattr(decoders_module, "AGAIN_S", 0.01)

    def scarce() -> int:
        if left:
            raise left.pop()
        return real()

    monkeypatch.setattr(decoders_module, "anonymous_memory", scarce)
    made = Decoders(1)
    try:
        assert made.decode(photo("PNG"), JOB)[0].shape == (32, 32, 3)
        assert not left
    finally:
        made.close()


def test_a_photo_that_takes_too_long_is_ended_and_the_next_one_is_decoded() -> None:
    made = Decoders(1)
    try:
        made.decode(photo("PNG"), JOB)  # it runs: starting has a limit of its own
        made.seconds = 0.2
        os.kill(idle(made), signal.SIGSTOP)
        with pytest.raises(ImageError, match=r"longer than 0\.2 s"):
            made.decode(photo("PNG"), JOB)
        made.seconds = 10
        assert made.decode(photo("PNG"), JOB)[0].shape == (32, 32, 3)
    finally:
        made.close()


def test_a_moment_is_kept(decoders: Decoders) -> None:
    with pytest.raises(TimeoutError):
        decoders.decode(photo("PNG"), JOB, until=time.monotonic())
    assert decoders.decode(photo("PNG"), JOB)[0].shape == (32, 32, 3)


def test_the_end_ends_what_is_under_way_and_leaves_nothing() -> None:
    before = len(children()), psutil.Process().num_fds()
    made = Decoders(1)
    made.start()
    os.kill(idle(made), signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(made.decode, photo("PNG"), JOB)
        time.sleep(0.1)
        made.close()
        assert isinstance(running.exception(5), TimeoutError)
    assert (len(children()), psutil.Process().num_fds()) == before


def test_large_photos_take_turns_within_the_budget() -> None:
    budget = Budget(100)
    soon = time.monotonic() + 0.05
    with budget.share(60, soon):
        with pytest.raises(TimeoutError), budget.share(60, soon):
            pass
        with budget.share(40, soon):
            assert budget.used == 100
    assert budget.used == 0
    with pytest.raises(ImageError, match="more than the 100 for all"), budget.share(101, soon):
        pass


def test_a_photo_larger_than_the_budget_is_refused() -> None:
    made = Decoders(1, budget_bytes=64 << 20)
    try:
        with pytest.raises(ImageError, match="bytes of memory"):
            made.decode(photo("PNG", 3000, 2500), JOB)
        assert made.decode(photo("PNG"), JOB)[0].shape == (32, 32, 3)
    finally:
        made.close()


def test_a_heavy_photo_of_a_library_call_is_decoded_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo("PNG")
    here = decode.decode(data)
    asked = []
    real = apart.decode
    monkeypatch.setattr(guard, "HEAVY_BYTES", 1000)
    monkeypatch.setattr(apart, "decode", lambda *a: asked.append(a) or real(*a))
    assert np.array_equal(decode.decode(data), here)
    assert asked
    with pytest.raises(ImageError, match=r"^The image cannot be read: it is truncated"):
        decode.decode(data[:2000])


def test_a_heavy_photo_that_lacks_only_its_end_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo("JPEG")
    here = decode.decode_picture(data[:-2])
    assert here.mended
    monkeypatch.setattr(guard, "HEAVY_BYTES", 1000)
    for shorter_side in (None, 20):
        apart_ = decode.decode_picture(data[:-2], shorter_side=shorter_side)
        assert apart_.mended
    assert np.array_equal(decode.decode(data[:-2]), np.asarray(here.image))
    assert not decode.decode_picture(data).mended


def test_a_heavy_photo_is_put_off_where_only_light_ones_are_decoded() -> None:
    made = Decoders(1)
    try:
        assert made.decode(photo("PNG"), JOB, heavy=False).pixels.shape == (32, 32, 3)
        process = idle(made)
        with pytest.raises(HeavyError):
            made.decode(photo("PNG", 3000, 2500), JOB, heavy=False)
        assert made.budget.used == 0
        assert made.decode(photo("PNG", 3000, 2500), JOB).pixels.shape == (32, 32, 3)
        assert made.decode(photo("PNG"), JOB, heavy=False).pixels.shape == (32, 32, 3)
        assert idle(made) == process
    finally:
        made.close()
