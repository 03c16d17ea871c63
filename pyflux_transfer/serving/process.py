"""The parent's handle on one worker process: start, submit, answers, death."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyflux_transfer.serving.flight import Flight, Times
from pyflux_transfer.serving.model import Description
from pyflux_transfer.serving.ring import Ring

# A worker is given this many times its own full batch before it is taken for hung, where that is
# more than the deadline: a short deadline must not kill a slow but healthy worker.
PATIENCE = 4
# Between the end of the pipe and the exit status, which says more, lies a moment.
EXIT_S = 0.2

# The path comes first: the current directory must not be searched unless this process does so too.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from pyflux_transfer.serving.worker import main; main()"
)


# Before so many seconds without progress, and PATIENCE batches, no worker is said to be stalled.
STALL_S = 1.0


class LoadError(Exception):
    """The worker said why it cannot serve the bundle: starting it again would change nothing."""


class WorkerDiedError(Exception):
    """The worker ended without a word, or of something that may be gone the next time."""


@dataclass(frozen=True)
class Command:
    """What a worker is told at its start."""

    loader: str
    path: Path
    options: Mapping[str, str]
    slots: int
    max_batch: int
    window_s: float
    memory: int  # descriptor
    environment: Mapping[str, str] = field(default_factory=dict)
    log: tuple[str, str] = ("plain", "info")  # form, level

    def line(self) -> bytes:
        """Return the configuration line."""
        row = {
            "loader": self.loader,
            "path": str(self.path),
            "options": dict(self.options),
            "slots": self.slots,
            "max_batch": self.max_batch,
            "window_s": self.window_s,
            "memory": self.memory,
            "log": self.log,
        }
        return json.dumps(row).encode() + b"\n"


class WorkerProcess:
    """One process from its start to its death; never restarted, only replaced."""

    def __init__(self, command: Command, deadline_s: float) -> None:
        self.command = command
        self.answered = 0
        self.in_work: dict[int, Flight] = {}
        self.gone = False
        self._why_killed = ""
        self._on_gone: Callable[[], None] = lambda: None
        self._deadline_s = deadline_s
        self._batch_s = 0.0
        self._progress = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self._process.pid if self._process else 0

    async def start(self, seconds: float, on_state: Callable[[str], None]) -> Description:
        """Start the process and wait until it can predict.

        Raises LoadError with the worker's reason, or WorkerDiedError. Cancelled, it kills it.
        """
        pipe = asyncio.subprocess.PIPE
        # A program of its own, not a fork of this one: nothing of the web process (threads, locks,
        # sockets) is in it, and the caller's main module is not run again. A session of its own:
        # Ctrl-C in a terminal is for the web process, which drains, and not for a loading worker.
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _PROGRAM,
                *sys.path,
                stdin=pipe,
                stdout=pipe,
                pass_fds=(self.command.memory,),
                env={**os.environ, **self.command.environment},
                limit=1 << 24,
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerDiedError(f"it cannot be started: {error}") from None
        try:
            return await asyncio.wait_for(self._greeting(on_state), seconds)
        except asyncio.TimeoutError:
            await self.end_now("too slow")
            raise LoadError(
                f"the worker was not ready after {seconds:g} s. Give it more with --startup-s."
            ) from None
        except BaseException:
            await self.end_now("its start was given up")
            raise

    async def _greeting(self, on_state: Callable[[str], None]) -> Description:
        self._write(self.command.line())
        async for message in self._messages():
            if message["event"] == "state":
                on_state(message["state"])
            elif message["event"] == "failed":
                raise (LoadError if message["final"] else WorkerDiedError)(message["reason"])
            else:
                self._batch_s = message["batch_s"]
                self._deadline_s = max(self._deadline_s, PATIENCE * message["batch_s"])
                return Description.from_json(message["description"])
        await self._wait(EXIT_S)
        raise WorkerDiedError(self.end)

    def submit(self, slots: list[int], flight: Flight, alone: bool = False) -> None:
        """Hand the images in `slots` to the worker; `alone` keeps each out of all batches."""
        if not self.in_work:
            self._rewatch()
        self.in_work.update(dict.fromkeys(slots, flight))
        row = {
            "slots": slots,
            "submitted": flight.submitted,
            "deadline": flight.deadline,
            "alone": alone,
        }
        self._write(json.dumps(row).encode() + b"\n")

    async def run(
        self,
        ring: Ring,
        on_batch: Callable[[list[int], Times], None],
        on_gone: Callable[[], None],
    ) -> str:
        """Take answers until the process is dead; return how it ended.

        `on_gone` is called at the first sign of the end: nothing may be submitted from then on.
        What is still `in_work` is the caller's again after the return only, when nothing can write
        to its slots any more.
        """
        self._on_gone = on_gone
        try:
            async for message in self._messages():
                self._take(message, ring, on_batch)
            self._leave()
            await self._wait(EXIT_S)
        finally:
            self._leave()
            await self.end_now("it closed its pipe")
        return self.end

    def _leave(self) -> None:
        if self._watch:
            self._watch.cancel()
        if not self.gone:
            self.gone = True
            self._on_gone()

    def _take(
        self, message: dict[str, Any], ring: Ring, on_batch: Callable[[list[int], Times], None]
    ) -> None:
        slots, errors = message["slots"], message["errors"]
        first = next(iter(self.in_work))
        compute_s = message["finished"] - message["started"]
        self.answered += len(slots) - len(errors)
        for slot in slots:
            flight = self.in_work.pop(slot)
            queue_s = max(message["started"] - flight.submitted, 0.0)
            times = Times(queue_s, compute_s, message["computed"])
            heat = message.get("heats", {}).get(str(slot))
            flight.land(slot, ring.answers[slot], errors.get(str(slot)), times, heat)
        if first in slots:  # another batch may be answered while this one hangs
            self._rewatch()
        on_batch(slots, Times(0.0, compute_s, message["computed"]))

    def kill(self, why: str) -> None:
        """End the process now."""
        if self._alive.returncode is None:
            self._why_killed = self._why_killed or why
            self._alive.kill()
        self._leave()

    @property
    def end(self) -> str:
        """How the process ended, in words."""
        if self._why_killed:
            return self._why_killed
        code = self._process.returncode if self._process else None
        if code is None:
            return "it closed its pipe"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    @property
    def stalled(self) -> bool:
        """Tell whether it has work and makes no progress, or was stopped from outside."""
        silent_s = time.monotonic() - self._progress
        late = bool(self.in_work) and silent_s > max(STALL_S, PATIENCE * self._batch_s)
        return late or _stopped(self.pid)

    def _rewatch(self) -> None:
        """Wind the clock that finds a hung worker: no answer to its first image for too long."""
        self._progress = time.monotonic()
        if self._watch:
            self._watch.cancel()
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(self._deadline_s, self._bark)

    def _bark(self) -> None:
        if self.in_work:
            self.kill(f"hung: no answer for {self._deadline_s:g} s")

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        stdout = self._alive.stdout
        assert stdout
        # A process that is killed may leave half a line.
        while (line := await stdout.readline()).endswith(b"\n"):
            yield json.loads(line)

    def _write(self, line: bytes) -> None:
        stdin = self._alive.stdin
        assert stdin
        # A dead worker's pipe: uvloop raises where asyncio says nothing. The end of the other pipe
        # follows, and fails what is in work.
        with contextlib.suppress(RuntimeError, OSError):
            stdin.write(line)

    @property
    def _alive(self) -> asyncio.subprocess.Process:
        assert self._process
        return self._process

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._alive.wait(), seconds)

    async def end_now(self, why: str) -> None:
        """Make sure that the process is gone, also when the caller is being cancelled."""
        stdin = self._alive.stdin
        assert stdin
        stdin.close()
        self.kill(why)
        await asyncio.shield(self._alive.wait())


def _stopped(pid: int) -> bool:
    """Tell whether a process is stopped by a signal, where the system says so."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in "Tt"
