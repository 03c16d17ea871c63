"""One loaded bundle: its memory, its worker processes, and the requests that it admitted.

Everything here runs in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.serving.model import Description
from pyflux_transfer.serving.problems import Problem
from pyflux_transfer.serving.process import (
    Command,
    Flight,
    LoadError,
    Times,
    WorkerDiedError,
    WorkerProcess,
)
from pyflux_transfer.serving.ring import Layout, Ring, anonymous_memory

log = logging.getLogger(__name__)

# Seconds to wait before the next start, by how many starts in a row answered nothing.
BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# Starts in a row that may die while loading (out of memory, a crash of a library).
MAX_DEAD_STARTS = 3


class Observer(Protocol):
    """Who counts what happens."""

    def batch(self, times: Times) -> None:
        """A batch was computed."""

    def restart(self, reason: str) -> None:
        """A worker is started again because it `died` or `hung`."""

    def served(self, description: Description) -> None:
        """This model is served from now on."""


@dataclass(frozen=True)
class Plan:
    """What every deployment is made of; `environments` has one entry a worker."""

    command: Command
    environments: tuple[dict[str, str], ...]
    deadline_s: float
    startup_s: float


class Deployment:
    """One bundle, loaded by one or more workers that share one memory."""

    def __init__(self, plan: Plan, observer: Observer) -> None:
        self.memory = anonymous_memory()
        self.plan = replace(plan, command=replace(plan.command, memory=self.memory))
        self.observer = observer
        self.description: Description | None = None
        self.ring: Ring | None = None
        self.ready: list[WorkerProcess] = []
        self.restarts = 0
        self.state, self.reason = "starting", "the bundle is being loaded"
        self.settled = asyncio.Event()  # ready for the first time, or failed
        self.changed = asyncio.Event()  # a restarted worker found another bundle
        self.unused = asyncio.Event()  # no request is under way
        self.unused.set()
        self._leases = 0
        slots = plan.command.slots
        self.free = list(range(slots))
        self._holds = [0] * slots
        self._image_s = 0.1  # seconds from image to image, a running mean, for Retry-After
        self._last_batch = 0.0
        self._failed: set[int] = set()
        self._closing = False
        self._keepers = [
            asyncio.create_task(self._keep(index)) for index in range(len(plan.environments))
        ]

    # --- requests -------------------------------------------------------------------------------

    def admit(self, count: int) -> Lease:
        """Reserve slots for `count` images.

        Raises Problem at once: `no_worker` while none is ready, `queue_full`.
        """
        if not self.ready:
            wait_s = 30 if self.state == "failed" else 1
            raise Problem(
                "no_worker",
                f"No worker is ready ({self.state}): {self.reason}.",
                retry_after_s=wait_s,
            )
        if count > len(self.free):
            seconds = self.taken * self._image_s
            raise Problem(
                "queue_full",
                f"{self.taken} of {len(self._holds)} places are taken, {count} are needed.",
                retry_after_s=max(1, min(60, math.ceil(seconds))),
            )
        self._leases += 1
        self.unused.clear()
        # The slot freed last is taken first: its memory is still in the caches.
        return Lease(self, [self.free.pop() for _ in range(count)])

    def give_back(self, slots: list[int]) -> None:
        """End a request's lease."""
        self.release(slots)
        self._leases -= 1
        if not self._leases:
            self.unused.set()

    @property
    def taken(self) -> int:
        """Images that were accepted and not answered."""
        return len(self._holds) - len(self.free)

    def hold(self, slots: Iterable[int]) -> None:
        """Note one more user of these slots: the request, a decoding thread, a worker."""
        for slot in slots:
            self._holds[slot] += 1

    def release(self, slots: Iterable[int]) -> None:
        """Note one user less; a slot without users is free again."""
        for slot in slots:
            self._holds[slot] -= 1
            if not self._holds[slot]:
                self.free.append(slot)

    def submit(self, slots: list[int], deadline: float) -> Flight:
        """Give decoded images to the least busy worker."""
        if not self.ready:
            raise Problem("worker_lost", f"The worker is gone: {self.reason}.", retry_after_s=1)
        assert self.description
        worker = min(self.ready, key=lambda worker: len(worker.in_work))
        flight = Flight(slots, len(self.description.classes))
        self.hold(slots)
        worker.submit(slots, flight, deadline)
        return flight

    # --- workers --------------------------------------------------------------------------------

    async def _keep(self, index: int) -> None:
        try:
            await self._restart_forever(index)
        except Exception as error:  # a fault of this machine or of ours: said, not repeated
            log.exception("worker %d cannot be kept", index)
            self._give_up(index, f"{type(error).__name__}: {error}")

    async def _restart_forever(self, index: int) -> None:
        """Start a worker, serve, and again after its death; return when that has no more sense."""
        environment = self.plan.environments[index]
        command = replace(self.plan.command, environment=environment)
        fruitless = dead_starts = 0
        while True:
            worker = WorkerProcess(command, self.plan.deadline_s)
            try:
                description = await worker.start(self.plan.startup_s, self._report)
            except LoadError as error:
                return self._give_up(index, str(error))
            except WorkerDiedError as error:
                dead_starts += 1
                why = f"the worker died while it loaded the bundle: {error}"
                if dead_starts == MAX_DEAD_STARTS:
                    return self._give_up(index, f"{why}, {dead_starts} times in a row")
            else:
                dead_starts = 0
                end = await self._serve(worker, description)
                if end is None or self._closing:
                    return None
                why = end
                fruitless = 0 if worker.answered else fruitless + 1
            self.restarts += 1
            self.observer.restart("hung" if why.startswith("hung") else "died")
            wait_s = BACK_OFF_S[min(fruitless + dead_starts, len(BACK_OFF_S) - 1)]
            log.warning("worker lost: %s; starting another in %g s", why, wait_s)
            if not self.ready:
                self.state, self.reason = "starting", f"the last worker was lost ({why})"
            await asyncio.sleep(wait_s)

    async def _serve(self, worker: WorkerProcess, description: Description) -> str | None:
        """Let a started worker answer until its death; return how it ended.

        None: it loaded another bundle than the others, and was not used.
        """
        try:
            ring = self._share(description)
            if description != self.description:
                self.changed.set()
                self.reason = "the bundle's file holds another model now"
                return None
            self.ready.append(worker)
            self.state, self.reason = "ready", ""
            self.settled.set()
            log.info("worker %d is ready", worker.pid)
            return await worker.run(ring, self._on_batch, partial(self._lose, worker))
        finally:
            await worker.end_now("it is not needed")
            self.release(list(worker.in_work))

    def _lose(self, worker: WorkerProcess) -> None:
        self.ready.remove(worker)
        if not self.ready:
            self.state, self.reason = "starting", "the last worker was lost"

    def _share(self, description: Description) -> Ring:
        """Return the memory, laid out for the first worker's model."""
        if self.ring is None:
            slots = self.plan.command.slots
            side, classes = description.preprocessing.crop, len(description.classes)
            self.ring = Ring(self.memory, Layout(slots, side, classes))
            self.description = description
        return self.ring

    def _give_up(self, index: int, reason: str) -> None:
        self._failed.add(index)
        log.error("the bundle cannot be served: %s", reason)
        if len(self._failed) == len(self._keepers):
            self.state, self.reason = "failed", reason
            self.settled.set()

    def _report(self, state: str) -> None:
        if not self.ready:
            self.state = state

    def _on_batch(self, slots: list[int], times: Times) -> None:
        self.release(slots)
        self.observer.batch(times)
        if times.batch:
            # Batches may overlap: what counts is the time since the one before.
            now = time.monotonic()
            spent = min(times.compute_s, now - self._last_batch)
            self._last_batch = now
            self._image_s += 0.2 * (spent / times.batch - self._image_s)

    async def close(self, grace_s: float) -> None:
        """Wait until what was admitted is answered, at most `grace_s`; then end the workers."""
        try:
            await asyncio.wait_for(self.unused.wait(), grace_s)
        except asyncio.TimeoutError:
            log.warning("%d requests were not answered in time", self._leases)
        self._closing = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        # Frees the memory now, not when cycles (the tasks' tracebacks) are collected.
        self._keepers.clear()
        self.ring = None
        os.close(self.memory)


class Lease:
    """One request's slots, from admission to its answer; a context manager that gives them back."""

    def __init__(self, deployment: Deployment, slots: list[int]) -> None:
        assert deployment.ring
        assert deployment.description
        self.deployment = deployment
        self.description = deployment.description
        self.slots = slots
        self._ring = deployment.ring
        self._flight: Flight | None = None
        deployment.hold(slots)
        self._ring.abandoned[slots] = 0
        self._coming = 0
        self._expect(len(slots))

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self._expect(0)
        if self._flight and not self._flight.answer.done():
            # Nobody waits any more: spare the worker the work, and the future its exception.
            self._ring.abandoned[self.slots] = 1
            self._flight.answer.cancel()
        self.deployment.give_back(self.slots)

    def fill(
        self, place: int, threads: Executor, load: Callable[[], Pixels]
    ) -> asyncio.Future[None]:
        """Run `load` in a thread and put its image into the slot of this place.

        The thread holds the slot for as long as it runs, whether or not somebody still waits.
        """
        loop, slot = asyncio.get_running_loop(), self.slots[place]
        target = self._ring.images[slot]

        def work() -> None:
            target[...] = load()

        def done(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.deployment.release, [slot])

        self.deployment.hold([slot])
        running = threads.submit(work)
        running.add_done_callback(done)
        return asyncio.wrap_future(running)

    def submit(self, deadline: float) -> asyncio.Future[tuple[Array, Times]]:
        """Hand the images to a worker; the future holds probabilities (N,classes)."""
        # Counted out first: the worker must not wait for what it has just been given.
        self._expect(0)
        self._flight = self.deployment.submit(self.slots, deadline)
        return self._flight.answer

    def _expect(self, coming: int) -> None:
        """Tell the workers how many of this request's images are still to come."""
        self._ring.expect(coming - self._coming)
        self._coming = coming
