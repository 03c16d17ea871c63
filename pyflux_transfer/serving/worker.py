"""The worker process: loads the bundle, warms up, forms batches and computes.

It speaks JSON lines on the pipes that were its stdin and stdout; pixels and probabilities stay in
the shared memory. Its loop takes queue-like arguments, so it runs without a process too.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import queue
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.data.preprocess import normalise
from pyflux_transfer.engines.torch.allocator import keep_memory
from pyflux_transfer.errors import EngineError, InputError, PyFluxTransferError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.serving import logs
from pyflux_transfer.serving.model import find_loader
from pyflux_transfer.serving.ring import Layout, Ring
from pyflux_transfer.serving.soundness import warm_up

# An engine that fails this often in a row is taken for broken; a new process starts clean.
MAX_FAILURES = 3
# A worker whose parent is gone may finish its batch, no more.
ORPHAN_S = 10.0


# Answers (N, numbers), as `Description.numbers` tells, of images (N, crop, crop, 3) uint8.
Predict = Callable[[Pixels], Array]
# Small PNGs of images (N, crop, crop, 3) uint8 under the heat of their answers (N, numbers).
Explain = Callable[[Pixels, Array], list[bytes]]


@dataclass(frozen=True)
class Job:
    """An image in a slot; times are of the monotonic clock, which all processes share."""

    slot: int
    submitted: float
    deadline: float
    alone: bool = False  # in no batch with others, and nothing else beside it


class Inbox(Protocol):
    """The part of `queue.Queue` that is used."""

    def get(self, block: bool = True, timeout: float | None = None) -> Job | None:
        """Return the next job, or None at the end; raise queue.Empty after `timeout` seconds."""


def batches(
    inbox: Inbox,
    size: int,
    window_s: float,
    coming: Callable[[], int],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[Job]]:
    """Yield batches of at most `size` jobs until the inbox ends.

    A batch takes all that waits. It then waits for more only while images are `coming`, at most
    until `window_s` after its first job was submitted and never past a deadline. So a lone request
    is not delayed, and a busy worker's queue needs no window at all. A job that must be alone is a
    batch.
    """
    ended = False
    kept: Job | None = None
    while not ended and (first := kept or inbox.get()) is not None:
        batch, kept = [first], None
        if first.alone:
            yield batch
            continue
        closes = min(first.submitted + window_s, first.deadline)
        while len(batch) < size:
            wait_s = closes - clock() if coming() > 0 else 0.0
            try:
                job = inbox.get(wait_s > 0, max(wait_s, 0.0))
            except queue.Empty:
                break
            if job is None:
                ended = True
                break
            if job.alone:
                kept = job
                break
            batch.append(job)
            closes = min(closes, job.deadline)
        yield batch


def compute(predict: Predict, ring: Ring, slots: Sequence[int]) -> dict[int, str]:
    """Answer the slots in place; return the reasons of those that failed.

    A batch that fails is computed again one by one: one image must not be its neighbours' error.
    """
    chosen = list(slots)
    try:
        found = predict(ring.images[chosen])
        if not np.isfinite(found).all():
            raise EngineError("the answers are not finite")
        ring.answers[chosen] = found
    except Exception as error:
        if len(chosen) == 1:
            return {chosen[0]: f"{type(error).__name__}: {error}"}
        singles = [compute(predict, ring, [slot]) for slot in chosen]
        return {slot: reason for errors in singles for slot, reason in errors.items()}
    return {}


class Answerer:
    """Computes batches in place and replies to each with its slots, errors and times."""

    def __init__(
        self,
        reply: Callable[[dict[str, Any]], None],
        ring: Ring,
        predict: Predict,
        explain: Explain | None = None,
    ) -> None:
        self._explain = explain
        self._reply = reply
        self._ring = ring
        self._predict = predict
        self._lock = threading.Lock()
        self._failures = 0

    def __call__(self, batch: list[Job]) -> None:
        """Answer one batch; raise EngineError when every image failed several times in a row."""
        started = time.monotonic()
        live = [job.slot for job in batch if not self._ring.abandoned[job.slot]]
        self._ring.started[live] = 1
        errors = compute(self._predict, self._ring, live) if live else {}
        errors_of = {str(slot): reason for slot, reason in errors.items()}
        message = {
            "event": "done",
            "slots": [job.slot for job in batch],
            "errors": errors_of,
            "computed": len(live),
            "heats": self._heats([slot for slot in live if slot not in errors]),
            "started": started,
            "finished": time.monotonic(),
        }
        with self._lock:
            self._reply(message)
            self._failures = self._failures + 1 if live and len(errors) == len(live) else 0
            if self._failures >= MAX_FAILURES:
                reason = next(iter(errors.values()))
                raise EngineError(f"{MAX_FAILURES} batches in a row failed: {reason}")

    def _heats(self, slots: Sequence[int]) -> dict[str, str]:
        """Return the heat maps that are wanted, in base64; an answer without one is an answer."""
        wanted = [slot for slot in slots if self._ring.explain[slot]]
        if not wanted or self._explain is None:
            return {}
        try:
            made = self._explain(self._ring.images[wanted], self._ring.answers[wanted])
        except Exception as error:
            logging.getLogger(__name__).warning("no heat map: %s", error)
            return {}
        rows = zip(wanted, made, strict=True)
        return {str(slot): base64.b64encode(picture).decode() for slot, picture in rows}


def serve(found: Iterable[list[Job]], answer: Callable[[list[Job]], None], lanes: int) -> None:
    """Answer the batches, so many `lanes` at a time; 1 stays in the calling thread.

    A lone image stays there, too: an engine may let all processors share it.
    """
    with ThreadPoolExecutor(lanes, "lane") as threads:
        under_way: set[Future[None]] = set()
        for batch in found:
            if batch[0].alone:
                for each in wait(under_way).done:
                    each.result()
                under_way = set()
            if lanes == 1 or (len(batch) == 1 and all(each.done() for each in under_way)):
                answer(batch)
                continue
            under_way.add(threads.submit(answer, batch))
            if len(under_way) == lanes:
                # The next batch is formed when a lane is free: the later, the fuller.
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for each in done:
                    each.result()


class PipeInbox:
    """The jobs on the pipe from the parent, as an Inbox.

    It is read by the thread that computes, so no other thread must wake between a job's arrival
    and its batch.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._jobs: deque[Job] = deque()
        self._rest = b""
        self._ended = False

    def get(self, block: bool = True, timeout: float | None = None) -> Job | None:
        """Return the next job; see Inbox."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._jobs and not self._ended:
            left = 0.0 if not block else None if until is None else until - time.monotonic()
            if not self._poll.poll(None if left is None else max(left, 0.0) * 1000):
                raise queue.Empty
            for line in self._read():
                message = json.loads(line)
                times = message["submitted"], message["deadline"], message.get("alone", False)
                self._jobs.extend(Job(slot, *times) for slot in message["slots"])
        return self._jobs.popleft() if self._jobs else None

    def configuration(self) -> dict[str, Any]:
        """Wait for the first line and return it; nothing follows it before the worker is ready."""
        while not (lines := self._read()) and not self._ended:
            pass
        row: dict[str, Any] = json.loads(lines[0])
        return row

    def _read(self) -> list[bytes]:
        """Read what is there, at least a byte; return the lines that it completes."""
        data = os.read(self._descriptor, 1 << 16)
        self._ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


def main() -> None:
    """Run a worker: the first line on stdin is its configuration, what follows are jobs."""
    _ignore_signals()
    keep_memory()
    inbox, send = _take_pipes()
    config = inbox.configuration()
    logs.configure(*config["log"])

    def report(state: str) -> None:
        send({"event": "state", "state": state})

    try:
        loader = find_loader(config["loader"])
        model = loader(Path(config["path"]), config["options"], report)
        report("starting")
        batch_s = warm_up(model, config["max_batch"])
    except Exception as error:
        known = isinstance(error, PyFluxTransferError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        # What was given cannot be used, now or later; all else may be the moment's.
        send({"event": "failed", "reason": reason, "final": isinstance(error, InputError)})
        return
    _ignore_signals()  # Julia has put its own handlers
    description = model.description
    send({"event": "ready", "batch_s": batch_s, "description": description.to_json()})

    layout = Layout(config["slots"], description.preprocessing.crop, description.numbers)
    ring = Ring(config["memory"], layout)
    found = batches(inbox, config["max_batch"], config["window_s"], lambda: ring.coming)

    def predict(pixels: Pixels) -> Array:
        images = normalise(pixels, description.preprocessing)
        if description.belonging is None:
            return model.predict(images)
        probabilities, scores = model.answer(images)  # type: ignore[attr-defined]
        return np.column_stack([probabilities, scores])

    drawn: Explain | None = getattr(model, "explain", None)
    explain = drawn and partial(_drawn, drawn, len(description.classes))
    serve(found, Answerer(send, ring, predict, explain), model.lanes)


def _drawn(explain: Explain, classes: int, pixels: Pixels, answers: Array) -> list[bytes]:
    return explain(pixels, answers[:, :classes])


def _ignore_signals() -> None:
    # Ctrl-C and service managers signal the whole group; the web process decides when to end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _take_pipes() -> tuple[PipeInbox, Callable[[dict[str, Any]], None]]:
    """Move the pipes away from descriptors 0 and 1, where libraries read and print."""
    jobs = os.dup(0)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        try:
            answers.write(json.dumps(message) + "\n")
            answers.flush()
        except BrokenPipeError:  # nobody is there any more, to answer or to tell
            os._exit(1)

    threading.Thread(target=_end_with_parent, args=(jobs,), daemon=True).start()
    return PipeInbox(jobs), send


def _end_with_parent(jobs: int) -> None:
    """End an orphan even when its computation hangs."""
    parent = select.poll()
    parent.register(jobs, 0)  # wakes only when the other end is closed
    parent.poll()
    time.sleep(ORPHAN_S)
    os._exit(1)
