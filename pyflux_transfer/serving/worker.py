"""The worker process: loads the bundle, warms up, forms batches and computes.

It speaks JSON lines on the pipes that were its stdin and stdout; pixels and probabilities stay in
the shared memory. Its loop takes queue-like arguments, so it runs without a process too.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from pyflux_transfer.engines.base import Array
from pyflux_transfer.errors import EngineError, PyFluxTransferError
from pyflux_transfer.serving.model import Model, find_loader
from pyflux_transfer.serving.ring import Layout, Ring

# An engine that fails this often in a row is taken for broken; a new process starts clean.
MAX_FAILURES = 3
# A worker whose parent is gone may finish its batch, no more.
ORPHAN_S = 10.0


@dataclass(frozen=True)
class Job:
    """An image in a slot; times are of the monotonic clock, which all processes share."""

    slot: int
    submitted: float
    deadline: float


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
    is not delayed, and a busy worker's queue needs no window at all.
    """
    ended = False
    while not ended and (first := inbox.get()) is not None:
        batch = [first]
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
            batch.append(job)
            closes = min(closes, job.deadline)
        yield batch


def compute(predict: Callable[[Array], Array], ring: Ring, slots: Sequence[int]) -> dict[int, str]:
    """Answer the slots in place; return the reasons of those that failed.

    A batch that fails is computed again one by one: one image must not be its neighbours' error.
    """
    chosen = list(slots)
    try:
        found = predict(ring.images[chosen])
        if not np.isfinite(found).all():
            raise EngineError("the probabilities are not finite")
        ring.answers[chosen] = found
    except Exception as error:
        if len(chosen) == 1:
            return {chosen[0]: f"{type(error).__name__}: {error}"}
        singles = [compute(predict, ring, [slot]) for slot in chosen]
        return {slot: reason for errors in singles for slot, reason in errors.items()}
    return {}


def serve(
    inbox: Inbox,
    reply: Callable[[dict[str, Any]], None],
    ring: Ring,
    predict: Callable[[Array], Array],
    size: int,
    window_s: float,
) -> None:
    """Compute batches until the inbox ends; reply to each with its slots, errors and times.

    Raises EngineError when every image failed several times in a row.
    """
    failures = 0
    for batch in batches(inbox, size, window_s, lambda: ring.coming):
        started = time.monotonic()
        live = [job.slot for job in batch if not ring.abandoned[job.slot]]
        errors = compute(predict, ring, live) if live else {}
        reply(
            {
                "event": "done",
                "slots": [job.slot for job in batch],
                "errors": {str(slot): reason for slot, reason in errors.items()},
                "computed": len(live),
                "started": started,
                "finished": time.monotonic(),
            }
        )
        failures = failures + 1 if live and len(errors) == len(live) else 0
        if failures == MAX_FAILURES:
            raise EngineError(f"{failures} batches in a row failed: {next(iter(errors.values()))}")


def warm_up(model: Model, size: int) -> float:
    """Compute one image, then a full batch twice; return the seconds of the last."""
    side = model.description.preprocessing.crop
    for count in (1, size):
        model.predict(np.zeros((count, 3, side, side), np.float32))
    started = time.monotonic()
    model.predict(np.zeros((size, 3, side, side), np.float32))
    return time.monotonic() - started


def main() -> None:
    """Run a worker: the first line on stdin is its configuration, what follows are jobs."""
    _ignore_signals()
    lines, send = _take_pipes()
    config = json.loads(next(lines))

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
        send({"event": "failed", "reason": reason})
        return
    _ignore_signals()  # Julia has put its own handlers
    description = model.description
    send({"event": "ready", "batch_s": batch_s, "description": description.to_json()})

    inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    layout = Layout(config["slots"], description.preprocessing.crop, len(description.classes))
    ring = Ring(config["memory"], layout)
    threading.Thread(target=_read_jobs, args=(lines, inbox), daemon=True).start()
    serve(inbox, send, ring, model.predict, config["max_batch"], config["window_s"])


def _ignore_signals() -> None:
    # Ctrl-C and service managers signal the whole group; the web process decides when to end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _take_pipes() -> tuple[IO[str], Callable[[dict[str, Any]], None]]:
    """Move the pipes away from descriptors 0 and 1, where libraries read and print."""
    lines = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    return lines, send


def _read_jobs(lines: IO[str], inbox: queue.SimpleQueue[Job | None]) -> None:
    for line in lines:
        if not line.endswith("\n"):
            break  # the parent was killed within it
        message = json.loads(line)
        for slot in message["slots"]:
            inbox.put(Job(slot, message["submitted"], message["deadline"]))
    inbox.put(None)
    time.sleep(ORPHAN_S)
    os._exit(1)
