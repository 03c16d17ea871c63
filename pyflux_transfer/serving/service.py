"""One request's path: body → places → decode → worker → answer; and what all requests share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any

from fastapi import FastAPI, Request

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.data.decoders import Decoders, HeavyError, Job
from pyflux_transfer.errors import ImageError, InputError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.predict import Prediction, rank
from pyflux_transfer.serving.body import Buffer, content_kind, receive_body, unpack
from pyflux_transfer.serving.deployment import Plan
from pyflux_transfer.serving.devices import environments, max_batch
from pyflux_transfer.serving.fair import FairThreads, LargeError
from pyflux_transfer.serving.flight import Times
from pyflux_transfer.serving.keys import Keys
from pyflux_transfer.serving.lease import Lease
from pyflux_transfer.serving.metrics import Metrics
from pyflux_transfer.serving.model import Description
from pyflux_transfer.serving.pool import Pool
from pyflux_transfer.serving.problems import Problem
from pyflux_transfer.serving.process import Command
from pyflux_transfer.serving.settings import Settings
from pyflux_transfer.serving.tracing import Tracing
from pyflux_transfer.serving.uploads import Upload
from pyflux_transfer.serving.watch import watch

log = logging.getLogger(__name__)

# Bodies up to this size are unpacked in the event loop: that is quicker than a change of threads.
SMALL_BYTES = 256 * 1024
CLOSE_S = 2.0
# A photo whose file is larger takes so long to decode that it must not take every place; one that
# is heavy by its header is found out by the process that was to decode it.
LARGE_BYTES = 1024 * 1024


class Service:
    """What the routes share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.api_keys, settings.api_key_file)
        self.metrics = Metrics()
        self.tracing = Tracing() if settings.otel else None
        self.buffer = Buffer(settings.buffer_bytes)
        # One more than is asked for: large photos leave it to the small ones.
        count = settings.decode_threads + 1
        self.decoders = Decoders(count, settings.decode_s, settings.decode_bytes)
        self.threads = FairThreads(settings.decode_threads)
        self._pool: Pool | None = None

    @property
    def pool(self) -> Pool:
        """The workers; there are some from the lifespan's start on."""
        assert self._pool
        return self._pool

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Start the workers; at the end answer what was accepted and stop them."""
        self._pool = Pool(_plan(self.settings), self.metrics)
        self.threads.submit("", False, self.decoders.start)
        self.metrics.watch(lambda: self.pool.current.taken, lambda: len(self.pool.current.ready))
        watcher = (
            asyncio.create_task(watch(self.settings.bundle, self.pool.reload))
            if self.settings.reload_model
            else None
        )
        try:
            yield
        finally:
            if watcher:
                watcher.cancel()
            # The server has drained already: what is left here is what it gave up on.
            await self.pool.close(min(CLOSE_S, self.settings.grace_s))
            self.threads.close()
            await asyncio.to_thread(self.decoders.close)
            if self.tracing:
                await asyncio.to_thread(self.tracing.close)

    @property
    def failure(self) -> str:
        """Why the bundle can never be served; empty while it can."""
        current = self._pool.current if self._pool else None
        return current.reason if current and current.state == "failed" else ""

    def reload(self) -> None:
        """Read the key file and the bundle again; what cannot be read leaves the old in place."""
        try:
            self.keys.reload()
        except InputError as error:
            log.error("%s The old keys stay.", error)
        if self._pool:
            self._pool.reload()

    async def predict(
        self, request: Request, top: int, explain: bool = False
    ) -> tuple[list[Prediction], Lease]:
        """Answer a request's images, or raise the Problem that stands in the way."""
        limits, client = self.settings, self.keys.client(request)
        content_kind(request.headers)
        with self.buffer.share() as share:
            body = await receive_body(
                request.receive, request.headers, limits.max_body_bytes, limits.receive_s, share.add
            )
            deadline = time.monotonic() + limits.deadline_s
            work = partial(unpack, request.headers, body, limits.max_images)
            uploads = await asyncio.to_thread(work) if len(body) > SMALL_BYTES else work()
            names = [upload.name for upload in uploads]
            with self.pool.admit(len(uploads), client) as lease:
                began = time.monotonic()
                await self._decode(uploads, lease, deadline)
                decode_s = time.monotonic() - began
                del body, work, uploads
                share.free()
                rows, times = await _answer(
                    request, lease.submit(deadline, explain), deadline, limits.deadline_s
                )
        self.metrics.client(self.keys.label(request), len(names))
        self._observe(request, len(names), decode_s, times)
        return _ranked(names, rows, lease.description, top), lease

    async def _decode(self, uploads: Sequence[Upload], lease: Lease, deadline: float) -> None:
        job = _job(lease.description.preprocessing, self.settings.max_pixels)

        def read(upload: Upload, large: bool, into: Pixels) -> None:
            if isinstance(upload.data, ImageError):
                raise upload.data
            try:
                self.decoders.decode(upload.data, job, into, deadline, heavy=large)
            except HeavyError:
                raise LargeError(partial(read, upload, True, into)) from None
            except ImageError as error:
                raise ImageError(f"The image cannot be read: {error}") from None

        work = []
        for place, upload in enumerate(uploads):
            large = not isinstance(upload.data, ImageError) and len(upload.data) > LARGE_BYTES
            submit = partial(self.threads.submit, lease.client, large)
            work.append(lease.fill(place, submit, partial(read, upload, large)))
        done, late = await asyncio.wait(work, timeout=deadline - time.monotonic())
        for each in late:
            each.cancel()
        faults = []
        for upload, each in zip(uploads, work, strict=True):
            error = each.exception() if each in done else None
            if isinstance(error, TimeoutError):
                late.add(each)
            elif isinstance(error, ImageError):
                faults.append({"name": upload.name, "reason": str(error)})
            elif error is not None:
                raise error
        if faults:
            raise Problem(
                "bad_image",
                "; ".join(f"{fault['name']}: {fault['reason']}" for fault in faults[:3]),
                images=faults,
            )
        if late:
            raise _too_late(self.settings.deadline_s)

    def _observe(self, request: Request, images: int, decode_s: float, times: Times) -> None:
        self.metrics.decode_seconds.observe(decode_s)
        self.metrics.queue_seconds.observe(times.queue_s)
        if self.tracing:
            self.tracing.note(images, decode_s, times)
        request.scope["state"]["log"] = {
            "images": images,
            "decode_ms": round(1000 * decode_s, 1),
            "queue_ms": round(1000 * times.queue_s, 1),
            "compute_ms": round(1000 * times.compute_s, 1),
            "batch": times.batch,
        }


def _ranked(
    names: Sequence[str], rows: Array, description: Description, top: int
) -> list[Prediction]:
    """Return the predictions of a worker's answers (N, numbers)."""
    count, belonging = len(description.classes), description.belonging
    scores = None if belonging is None else rows[:, count]
    threshold = belonging["threshold"] if belonging else 0.0
    return rank(names, rows[:, :count], description.classes, top, scores, threshold)


# One object a model: what is sent of it to the decoding processes is made once.
_job = lru_cache(maxsize=4)(Job.of)


async def _answer(
    request: Request, answer: asyncio.Future[tuple[Array, Times]], deadline: float, limit_s: float
) -> tuple[Array, Times]:
    """Wait for the worker, the deadline or the client's going, whichever comes first."""
    gone = asyncio.ensure_future(request.receive())
    try:
        futures: set[asyncio.Future[Any]] = {answer, gone}
        await asyncio.wait(
            futures,
            timeout=max(0.0, deadline - time.monotonic()),
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        gone.cancel()
    if answer.done():
        return answer.result()
    if gone.done() and not gone.cancelled():
        raise Problem("client_gone", "The connection was closed before the answer.")
    raise _too_late(limit_s)


def _too_late(seconds: float) -> Problem:
    return Problem("deadline", f"No answer within {seconds:g} s.")


def _plan(settings: Settings) -> Plan:
    options = {
        "engine": settings.engine,
        "device": settings.device,
        "precision": settings.precision,
    }
    command = Command(
        loader=settings.loader,
        path=settings.bundle.absolute(),
        options=options,
        slots=settings.queue,
        max_batch=max_batch(settings),
        window_s=settings.window_ms / 1000,
        memory=-1,
        log=(settings.log_format, settings.log_level),
    )
    return Plan(
        command,
        environments(settings),
        settings.deadline_s,
        settings.startup_s,
        settings.client_images,
    )
