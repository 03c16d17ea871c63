"""One request's images on their way through the workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.serving.problems import Problem


@dataclass(frozen=True)
class Times:
    """How long an image waited and was computed, and how many were computed with it."""

    queue_s: float
    compute_s: float
    batch: int


class Flight:
    """The images of one request; `answer` is set once, when the last is back.

    `deaths` counts, for each slot, the workers that died while they computed it.
    """

    def __init__(
        self, slots: Sequence[int], numbers: int, deadline: float, client: str = ""
    ) -> None:
        self.places = {slot: place for place, slot in enumerate(slots)}
        self.deaths = dict.fromkeys(slots, 0)
        self.rows: Array = np.empty((len(self.places), numbers), np.float32)
        self.heats: list[str | None] = [None] * len(self.places)  # PNGs in base64
        self.submitted = time.monotonic()
        self.deadline = deadline
        self.client = client
        self.answer: asyncio.Future[tuple[Array, Times]] = (
            asyncio.get_running_loop().create_future()
        )
        self._missing = len(self.places)
        self._error: str | None = None

    def land(
        self, slot: int, row: Array, error: str | None, times: Times, heat: str | None = None
    ) -> None:
        """Take one image's answer, or the reason why there is none."""
        self.rows[self.places[slot]] = row
        self.heats[self.places[slot]] = heat
        self._error = self._error or error
        self._missing -= 1
        if self._missing or self.answer.done():
            return
        if self._error:
            self.answer.set_exception(Problem("engine_error", self._error))
        else:
            self.answer.set_result((self.rows, times))

    def crash(self, problem: Problem) -> None:
        """Fail the request, unless it is answered or nobody waits for it."""
        if not self.answer.done():
            self.answer.set_exception(problem)
