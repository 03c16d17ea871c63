"""The deployment that is served, and its replacement by a newer one.

A request stays with the deployment that admitted it. Everything here runs in the event loop's
thread.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from pyflux_transfer.serving.deployment import Deployment, Observer, Plan
from pyflux_transfer.serving.lease import Lease

log = logging.getLogger(__name__)

# Before a reload that failed for want of descriptors or memory is tried again.
AGAIN_S = 5.0


@dataclass(frozen=True)
class Status:
    """What /readyz tells."""

    state: str
    reason: str
    ready: int
    wanted: int
    restarts: int


class Pool:
    """The deployment that is served, and its replacement by a newer one."""

    def __init__(self, plan: Plan, observer: Observer) -> None:
        self._plan = plan
        self._observer = observer
        self._wanted = asyncio.Event()
        self._reload_error = ""
        self._fresh: Deployment | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self.current = Deployment(plan, observer)
        self._task = asyncio.create_task(self._replace_forever())

    @property
    def status(self) -> Status:
        """The state and the reason for it."""
        now = self.current
        state, reason = now.state, now.reason or self._reload_error
        if now.stalled:
            state, reason = "stalled", "no worker makes progress"
        return Status(state, reason, len(now.ready), len(self._plan.environments), now.restarts)

    def admit(self, count: int, client: str = "") -> Lease:
        """Reserve places for `count` images in the current deployment; see Deployment.admit."""
        return self.current.admit(count, client)

    def reload(self) -> None:
        """Load the bundle again beside the old one and change over when it is ready."""
        self._wanted.set()

    async def _replace_forever(self) -> None:
        await self.current.settled.wait()
        self._announce()
        while True:
            await _any(self._wanted, self.current.changed)
            self._wanted.clear()
            self.current.changed.clear()
            try:
                await self._replace()
            except Exception as error:  # a fault of this machine, which may pass
                log.exception("the bundle cannot be loaded again; trying in %g s", AGAIN_S)
                self._reload_error = f"the reload failed: {error}"
                await asyncio.sleep(AGAIN_S)
                self._wanted.set()

    async def _replace(self) -> None:
        log.info("loading the bundle again")
        fresh = self._fresh = Deployment(self._plan, self._observer)
        await fresh.settled.wait()
        self._fresh = None
        if fresh.state == "failed" and self.current.state != "failed":
            self._reload_error = f"the newer bundle cannot be served: {fresh.reason}"
            log.error("%s; the old one stays", self._reload_error)
            await fresh.close(0)
            return
        old, self.current, self._reload_error = self.current, fresh, ""
        self._announce()
        # What was admitted is answered, or fails by its own deadline.
        task = asyncio.create_task(old.close(2 * self._plan.deadline_s))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _announce(self) -> None:
        if self.current.description:
            self._observer.served(self.current.description)

    async def close(self, grace_s: float) -> None:
        """Answer what was admitted, within `grace_s`, and end all workers."""
        self._task.cancel()
        deployments = [self.current, *([self._fresh] if self._fresh else [])]
        await asyncio.gather(*(each.close(grace_s) for each in deployments))
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=grace_s)


async def _any(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
