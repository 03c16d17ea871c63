"""One loaded bundle: its memory, its worker processes, and the requests that it admitted.

Everything here runs in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from pyflux_transfer.data.memory import anonymous_memory
from pyflux_transfer.serving.fair import Turns
from pyflux_transfer.serving.flight import Flight, Times
from pyflux_transfer.serving.lease import Lease
from pyflux_transfer.serving.model import Description
from pyflux_transfer.serving.problems import Problem
from pyflux_transfer.serving.process import Command, LoadError, WorkerDiedError, WorkerProcess
from pyflux_transfer.serving.ring import Layout, Ring

log = logging.getLogger(__name__)

# Seconds to wait before the next start, by how many starts in a row answered nothing.
BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# A worker that lived so long was of use, whether or not it was asked anything.
FRUITFUL_S = 60.0
# Starts in a row that may fail before the first has served (out of memory, a library's crash).
MAX_DEAD_STARTS = 3
# Workers that may die while they compute an image, before it is taken for the cause.
MAX_DEATHS = 2
# Full batches that a worker is given ahead; what waits beyond them takes turns.
AHEAD = 3


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
    client_images: int = 0  # that a client may have unanswered; 0: as many as there are places


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
        self._waiting: Turns[tuple[Flight, int]] = Turns()  # images for a worker
        self._held: Counter[str] = Counter()  # images a client
        self._load_s = 0.0  # how long the last worker took to load
        self._began = self._due = time.monotonic()  # when loading began, when a worker is expected
        self._failed: set[int] = set()
        self._closing = self._retired = False
        self._keepers = [
            asyncio.create_task(self._keep(index)) for index in range(len(plan.environments))
        ]

    # --- requests -------------------------------------------------------------------------------

    def admit(self, count: int, client: str = "") -> Lease:
        """Reserve slots for `count` images of a client.

        While a worker is restarted, what can wait for it within its deadline is admitted. Raises
        Problem at once: `no_worker`, `queue_full`, `client_full`.
        """
        if not self.ready:
            wait_s = self.wait_s
            if self.ring is None or self.state == "failed" or wait_s > self.plan.deadline_s:
                raise Problem(
                    "no_worker",
                    f"No worker is ready ({self.state}): {self.reason}.",
                    retry_after_s=wait_s,
                )
        most, held = self.plan.client_images, self._held[client]
        if most and held + count > most:
            raise Problem(
                "client_full",
                f"{held} images of yours are not answered yet, {count} more are too many: at most "
                f"{most}.",
                retry_after_s=self._seconds(held),
            )
        others = len(self._held) - (client in self._held)
        share = len(self._holds) // (others + 1)
        if others and held and held + count > share:
            raise Problem(
                "queue_full",
                f"You hold {held} of {len(self._holds)} places, and {others} others want some: "
                f"your share is {share}.",
                retry_after_s=self._seconds(held),
            )
        if count > len(self.free):
            raise Problem(
                "queue_full",
                f"{self.taken} of {len(self._holds)} places are taken, {count} are needed.",
                retry_after_s=self._seconds(self.taken),
            )
        self._held[client] += count
        self._leases += 1
        self.unused.clear()
        # The slot freed last is taken first: its memory is still in the caches.
        return Lease(self, [self.free.pop() for _ in range(count)], client)

    def _seconds(self, images: int) -> int:
        """Return how long so many images take, as Retry-After tells it."""
        return max(1, min(60, math.ceil(images * self._image_s)))

    def give_back(self, slots: list[int], client: str) -> None:
        """End a request's lease."""
        self._held[client] -= len(slots)
        if not self._held[client]:
            del self._held[client]
        self.release(slots)
        self._leases -= 1
        if not self._leases:
            self.unused.set()

    @property
    def wait_s(self) -> int:
        """Seconds until a worker is expected; overdue ones may take as long again."""
        now = time.monotonic()
        left = self._due - now if now < self._due else now - self._began
        return 30 if self.state == "failed" else max(1, min(60, math.ceil(left)))

    @property
    def stalled(self) -> bool:
        """Tell whether no ready worker makes any progress."""
        return bool(self.ready) and all(worker.stalled for worker in self.ready)

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

    def submit(self, slots: list[int], deadline: float, client: str = "") -> Flight:
        """Let decoded images be computed in their client's turn."""
        assert self.description
        if self._ended or self.state == "failed":
            raise self._lost(self.reason)
        flight = Flight(slots, self.description.numbers, deadline, client)
        self.hold(slots)
        self._wait(flight, slots)
        self._dispatch()
        return flight

    @property
    def _ended(self) -> bool:
        """Tell whether no worker will come any more: a new one would load the newer bundle."""
        return self._closing or (self._retired and not self.ready)

    def _fail_waiting(self) -> None:
        while self._waiting:
            flight, slot = self._waiting.pop()
            flight.crash(self._lost(self.reason or "the service is ending"))
            self.release([slot])

    def forget(self, flight: Flight) -> None:
        """Drop what waits for a worker and is not wanted any more."""
        self.release([slot for _, slot in self._waiting.discard(flight)])

    def _wait(self, flight: Flight, slots: Iterable[int]) -> None:
        for slot in slots:
            self._waiting.push(flight.client, flight, (flight, slot))

    def _dispatch(self) -> None:
        """Give the least busy workers what they need to be busy, and no more."""
        assert self.ring
        most = AHEAD * self.plan.command.max_batch
        chosen: dict[tuple[WorkerProcess, Flight, bool], list[int]] = {}
        given: Counter[WorkerProcess] = Counter()
        while self._waiting and self.ready:
            worker = min(self.ready, key=lambda each: len(each.in_work) + given[each])
            if len(worker.in_work) + given[worker] >= most:
                break
            flight, slot = self._waiting.pop()
            self.ring.started[slot] = 0
            # What a worker died of is computed apart: it may not take its neighbours with it.
            alone = flight.deaths[slot] > 0
            chosen.setdefault((worker, flight, alone), []).append(slot)
            given[worker] += 1
        for (worker, flight, alone), slots in chosen.items():
            worker.submit(slots, flight, alone)

    def _rescue(self, worker: WorkerProcess) -> None:
        """Let the next worker compute what a dead one had, but what has killed several."""
        flights: dict[Flight, list[int]] = {}
        for slot, flight in worker.in_work.items():
            flights.setdefault(flight, []).append(slot)
            flight.deaths[slot] += int(self.ring.started[slot]) if self.ring else 0
        for flight, slots in flights.items():
            hopeless = self._ended or max(flight.deaths.values()) >= MAX_DEATHS
            if hopeless or flight.answer.done():
                flight.crash(self._lost(worker.end))
                self.release(slots)
                self.forget(flight)
            else:
                self._wait(flight, slots)
        worker.in_work.clear()
        if flights:
            self._dispatch()

    def _lost(self, why: str) -> Problem:
        return Problem(
            "worker_lost",
            f"The worker process ended while it computed this: {why}.",
            retry_after_s=self.wait_s,
        )

    # --- workers --------------------------------------------------------------------------------

    async def _keep(self, index: int) -> None:
        """Start a worker, serve, and again after its death: for ever, once this has served."""
        environment = self.plan.environments[index]
        command = replace(self.plan.command, environment=environment)
        fruitless = 0
        while not self._closing:
            worker, began = WorkerProcess(command, self.plan.deadline_s), time.monotonic()
            self._began, self._due = began, began + self._load_s
            hopeless = False
            try:
                description = await worker.start(self.plan.startup_s, self._report)
                self._load_s = time.monotonic() - began
                why = await self._serve(worker, description)
            except LoadError as error:
                why, hopeless = str(error), True
            except WorkerDiedError as error:
                why = f"the worker died while it loaded the bundle: {error}"
            except Exception as error:  # a fault of this machine or of ours
                log.exception("worker %d cannot be kept", index)
                why = f"{type(error).__name__}: {error}"
            lived = time.monotonic() - began - self._load_s
            fruitless = 0 if worker.answered or lived > FRUITFUL_S else fruitless + 1
            if self.ring is None and (hopeless or fruitless == MAX_DEAD_STARTS):
                times = "" if hopeless else f", {fruitless} times in a row"
                self._give_up(index, why + times)
                return
            self.restarts += 1
            self.observer.restart("hung" if why.startswith("hung") else "died")
            wait_s = BACK_OFF_S[min(fruitless, len(BACK_OFF_S) - 1)]
            self._due = time.monotonic() + wait_s + self._load_s
            log.warning("worker lost: %s; starting another in %g s", why, wait_s)
            if not self.ready:
                self.state, self.reason = "starting", f"the last worker was lost ({why})"
            await asyncio.sleep(wait_s)

    async def _serve(self, worker: WorkerProcess, description: Description) -> str:
        """Let a started worker answer until its death; return how it ended."""
        try:
            ring = self._share(description)
            if description != self.description:
                self.changed.set()
                return "the bundle's file holds another model now"
            self.ready.append(worker)
            self.state, self.reason = "ready", ""
            self.settled.set()
            log.info("worker %d is ready", worker.pid)
            self._dispatch()
            return await worker.run(ring, self._on_batch, partial(self._lose, worker))
        finally:
            await worker.end_now("it is not needed")
            self._rescue(worker)

    def _lose(self, worker: WorkerProcess) -> None:
        if worker in self.ready:
            self.ready.remove(worker)
        if not self.ready:
            self.state, self.reason = "starting", "the last worker was lost"
            self._due = time.monotonic() + self._load_s
        if self._ended:
            self._fail_waiting()

    def _share(self, description: Description) -> Ring:
        """Return the memory, laid out for the first worker's model."""
        if self.ring is None:
            slots = self.plan.command.slots
            side, numbers = description.preprocessing.crop, description.numbers
            self.ring = Ring(self.memory, Layout(slots, side, numbers))
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
        self._dispatch()
        self.observer.batch(times)
        if times.batch:
            # Batches may overlap: what counts is the time since the one before.
            now = time.monotonic()
            spent = min(times.compute_s, now - self._last_batch)
            self._last_batch = now
            self._image_s += 0.2 * (spent / times.batch - self._image_s)

    async def close(self, grace_s: float) -> None:
        """Wait until what was admitted is answered, at most `grace_s`; then end the workers."""
        self._retired = True
        if self._ended:
            self._fail_waiting()
        try:
            await asyncio.wait_for(self.unused.wait(), grace_s)
        except asyncio.TimeoutError:
            log.warning("%d requests were not answered in time", self._leases)
        self._closing = True
        self._fail_waiting()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        # Frees the memory now, not when cycles (the tasks' tracebacks) are collected.
        self._keepers.clear()
        self.ring = None
        os.close(self.memory)
