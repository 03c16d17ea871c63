"""One request's slots, from admission to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.serving.flight import Flight, Times

if TYPE_CHECKING:
    from pyflux_transfer.serving.deployment import Deployment

# Runs a function with its arguments in some thread.
Submit = Callable[..., "Future[Any]"]


class Lease:
    """One request's slots, from admission to its answer; a context manager that gives them back."""

    def __init__(self, deployment: Deployment, slots: list[int], client: str = "") -> None:
        assert deployment.ring
        assert deployment.description
        self.deployment = deployment
        self.description = deployment.description
        self.slots = slots
        self.client = client
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
            self.deployment.forget(self._flight)
        self.deployment.give_back(self.slots, self.client)

    def fill(
        self, place: int, submit: Submit, load: Callable[[Pixels], object]
    ) -> asyncio.Future[object]:
        """Let `submit` run `load` in a thread, which fills the slot of this place with an image.

        The thread holds the slot for as long as it runs, whether or not somebody still waits.
        """
        loop, slot = asyncio.get_running_loop(), self.slots[place]
        target = self._ring.images[slot]
        waiting: asyncio.Future[object] = loop.create_future()

        # Neither is held by what it holds: a replaced bundle's memory goes with its last lease.
        def done(finished: Future[Any]) -> None:
            # One call into the loop for both: each wakes it by a write of its own.
            if not loop.is_closed():
                loop.call_soon_threadsafe(land, finished)

        def land(finished: Future[Any]) -> None:
            self.deployment.release([slot])
            if waiting.done():  # nobody waits any more
                return
            if finished.cancelled():
                waiting.cancel()
            elif error := finished.exception():
                waiting.set_exception(error)
            else:
                waiting.set_result(finished.result())

        def given_up(left: asyncio.Future[object]) -> None:
            if left.cancelled():
                running.cancel()

        self.deployment.hold([slot])
        running = submit(load, target)
        running.add_done_callback(done)
        waiting.add_done_callback(given_up)
        return waiting

    @property
    def heats(self) -> list[str | None]:
        """The heat maps that came with the answer, PNGs in base64."""
        return self._flight.heats if self._flight else []

    def submit(self, deadline: float, explain: bool = False) -> asyncio.Future[tuple[Array, Times]]:
        """Hand the images to a worker; the future holds probabilities (N,classes)."""
        self._ring.explain[self.slots] = explain
        # Counted out first: the worker must not wait for what it has just been given.
        self._expect(0)
        self._flight = self.deployment.submit(self.slots, deadline, self.client)
        return self._flight.answer

    def _expect(self, coming: int) -> None:
        """Tell the workers how many of this request's images are still to come."""
        self._ring.expect(coming - self._coming)
        self._coming = coming
