"""Decoding in processes: bounded in time and memory, and replaced when one dies.

`Decoders.decode` is called by threads; each waits for a process of its own. The photo and its
pixels pass through memory that is shared, so the cost is that of copying them.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.data.memory import anonymous_memory
from pyflux_transfer.errors import ImageError
from pyflux_transfer.networks.preprocessing import Preprocessing

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

log = logging.getLogger(__name__)

SECONDS = 10.0  # a photo
BUDGET_BYTES = 2 << 30  # in decoding at a time, beyond what small photos take
START_S = 60.0
AGAIN_S = 0.5
END_S = 1.0  # from the end of a pipe to the exit status
# What a photo leaves behind in the shared memory is kept up to this size: its pages are reused.
KEEP_BYTES = 16 << 20
# Processes that may die of a photo, before it is taken for the cause; more where they were killed,
# which a photo can hardly bring about: its process would run into its own limits before.
MAX_DEATHS, MAX_KILLS = 2, 4

# The path comes first: the current directory must not be searched unless this process does so too.
_PROGRAM = (
    "import sys; memory = int(sys.argv[1]); sys.path[:] = sys.argv[2:]; "
    "from pyflux_transfer.data.decoder import main; main(memory)"
)
# These libraries' threads would only cost memory: a photo is decoded by one.
_ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


# glibc keeps what a photo leaves behind up to these sizes; page faults would cost a third more.
_KEPT = {"MALLOC_TRIM_THRESHOLD_": str(48 << 20), "MALLOC_MMAP_THRESHOLD_": str(16 << 20)}


class HeavyError(Exception):
    """A photo takes so much that it has to wait its turn among such."""


class Decoded(NamedTuple):
    """Pixels (H,W,3) uint8, the box of them that the picture fills, and does the file lack its end.

    As in `decode.Picture`.
    """

    pixels: Pixels
    box: Box
    mended: bool


class DecoderDiedError(Exception):
    """A decoding process ended under a photo; `killed` from outside, as far as can be told."""

    def __init__(self, how: str, killed: bool = False) -> None:
        super().__init__(how)
        self.killed = killed


@dataclass(frozen=True)
class Job:
    """How a photo is decoded: as `decode_picture` does, then cut as `preprocessing` says."""

    max_pixels: int
    background: tuple[int, int, int]
    shorter_side: int | None = None
    preprocessing: Preprocessing | None = None

    @cached_property
    def text(self) -> str:
        """The job as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, preprocessing: Preprocessing, max_pixels: int) -> Job:
        """Return the job of evaluation: pixels (crop,crop,3)."""
        return cls(max_pixels, preprocessing.background, preprocessing.resize, preprocessing)


class Budget:
    """Bytes that may be in use at a time, given out in the order of asking."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._turn = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def share(self, size: int, until: float) -> Iterator[None]:
        """Wait for `size` bytes until a moment of the monotonic clock; raise TimeoutError then.

        Raises ImageError for more than there is at all.
        """
        if size > self.limit:
            raise ImageError(
                f"decoding it takes {size:,} bytes of memory, more than the {self.limit:,} for all."
            )
        ticket = object()
        with self._turn:
            self._queue.append(ticket)
            try:
                while self._queue[0] is not ticket or self.used + size > self.limit:
                    left = min(until - time.monotonic(), threading.TIMEOUT_MAX)
                    if not self._turn.wait(max(0.0, left)):
                        raise TimeoutError
                self.used += size
            finally:
                self._queue.remove(ticket)
                self._turn.notify_all()
        try:
            yield
        finally:
            with self._turn:
                self.used -= size
                self._turn.notify_all()


class Decoders:
    """At most `count` decoding processes, started when they are needed."""

    def __init__(
        self, count: int, seconds: float = SECONDS, budget_bytes: int = BUDGET_BYTES
    ) -> None:
        self.seconds = seconds
        self.budget = Budget(budget_bytes)
        self._places = threading.BoundedSemaphore(count)
        self._lock = threading.Lock()
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._closed = False

    def start(self) -> None:
        """Start one process ahead of the first photo."""
        with self._lend(time.monotonic() + START_S):
            pass

    def decode(
        self,
        data: bytes,
        job: Job,
        into: Pixels | None = None,
        until: float = float("inf"),
        *,
        heavy: bool = True,
    ) -> Decoded:
        """Return what a photo holds.

        `into` is filled with the pixels where it is given. Raises ImageError with the reason alone,
        also for what takes too long or too much, TimeoutError at the moment `until`, and, where it
        may not be `heavy`, HeavyError for what takes more memory than most: told by its header.
        """
        deaths = kills = 0
        while True:
            if time.monotonic() >= until:
                raise TimeoutError
            with self._lend(until) as decoder:
                try:
                    return decoder.decode(data, job, into, self, until, heavy)
                except DecoderDiedError as error:
                    if self._closed:
                        raise TimeoutError from None
                    log.warning("a decoding process was lost: %s", error)
                    kills += error.killed
                    deaths += not error.killed
                    if deaths == MAX_DEATHS or kills == MAX_KILLS:
                        raise ImageError(
                            f"decoding it ended {deaths + kills} processes, the last was {error}."
                        ) from None

    @contextmanager
    def _lend(self, until: float) -> Iterator[_Decoder]:
        with self._places:
            with self._lock:
                decoder = self._idle.pop() if self._idle else None
            if decoder is None or not decoder.alive:
                decoder = self._start(until)
            with self._lock:
                self._busy.add(decoder)
            if self._closed:
                decoder.end()
            try:
                yield decoder
            finally:
                with self._lock:
                    self._busy.discard(decoder)
                    if decoder.alive and not self._closed:
                        self._idle.append(decoder)
                    else:
                        decoder.end()

    def _start(self, until: float) -> _Decoder:
        """Start a process; wait while the machine has no descriptors or memory for it."""
        while True:
            try:
                return _Decoder()
            except OSError as error:
                log.warning("a decoding process cannot be started: %s", error)
                if self._closed or time.monotonic() + AGAIN_S > until:
                    raise TimeoutError from None
            time.sleep(AGAIN_S)

    def close(self) -> None:
        """End all processes at once, whatever they do; threads that wait for one get an error."""
        with self._lock:
            self._closed = True
            running = (*self._idle, *self._busy)
            for decoder in running:
                decoder.kill()
            for decoder in running:
                decoder.gone()
            while self._idle:
                self._idle.pop().end()


class _Decoder:
    """One process, used by one thread at a time; anything unusual ends it."""

    def __init__(self) -> None:
        memory = anonymous_memory()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(memory), *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=(memory,),
                env={**_KEPT, **os.environ, **_ALONE},
                start_new_session=True,
            )
        except OSError:
            os.close(memory)
            raise
        self._shared = os.fdopen(memory, "r+b", 0)
        self._poll = select.poll()
        assert self._process.stdout
        self._poll.register(self._process.stdout.fileno(), select.POLLIN)
        self._rest = b""
        self._greeted = False
        self.alive = True

    def decode(
        self,
        data: bytes,
        job: Job,
        into: Pixels | None,
        pool: Decoders,
        until: float,
        heavy: bool,
    ) -> Decoded:
        try:
            return self._decode(data, job, into, pool, until, heavy)
        except BaseException as error:
            if not isinstance(error, (_Refused, HeavyError)):
                self.kill()
            if isinstance(error, _TooSlow):
                raise ImageError(f"decoding it took longer than {pool.seconds:g} s.") from None
            if isinstance(error, _Refused):
                raise ImageError(str(error)) from None
            raise

    def _decode(
        self,
        data: bytes,
        job: Job,
        into: Pixels | None,
        pool: Decoders,
        until: float,
        heavy: bool,
    ) -> Decoded:
        if not self._greeted:
            self._receive(time.monotonic() + START_S, until)
            self._greeted = True
        view, place = memoryview(data), 0
        while place < len(data):
            place += os.pwrite(self._shared.fileno(), view[place:], place)
        row = {"job": job.text, "bytes": len(data), "seconds": pool.seconds}
        self._send(json.dumps(row).encode())
        answer = self._receive(time.monotonic() + pool.seconds, until)
        if "need" in answer and not heavy:
            self._send(b"later")
            self._receive(time.monotonic() + pool.seconds, until)
            raise HeavyError
        with ExitStack() as held:
            while "need" in answer:
                held.close()  # before more is asked for: two that hold and wait would wait for ever
                held.enter_context(pool.budget.share(answer["need"], until))
                self._send(b"go")
                answer = self._receive(time.monotonic() + pool.seconds, until)
            return self._take(answer, into)

    def _take(self, answer: dict[str, Any], into: Pixels | None) -> Decoded:
        if "error" in answer:
            raise _Refused(answer["error"])
        pixels: Pixels = np.empty(answer["shape"], np.uint8) if into is None else into
        self._shared.seek(0)
        view = pixels.reshape(-1).data
        while view:
            view = view[self._shared.readinto(view) :]
        if pixels.nbytes > KEEP_BYTES:
            self._shared.truncate(0)
        left, top, right, bottom = answer["box"]
        return Decoded(pixels, (left, top, right, bottom), answer["mended"])

    def _send(self, line: bytes) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(line + b"\n")
        except OSError:
            raise self._death() from None

    def _receive(self, limit: float, until: float) -> dict[str, Any]:
        """Return the next message; raise _TooSlow at `limit`, TimeoutError at `until`."""
        assert self._process.stdout
        while b"\n" not in self._rest:
            left = min(limit, until) - time.monotonic()
            if not self._poll.poll(max(left, 0.0) * 1000):
                raise _TooSlow if limit <= until else TimeoutError
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                raise self._death()
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _death(self) -> DecoderDiedError:
        self.alive = False
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        if code >= 0:
            return DecoderDiedError(f"ended with status {code}")
        name = signal.Signals(-code).name
        return DecoderDiedError(f"ended by {name}", killed=name == "SIGKILL")

    def kill(self) -> None:
        """End the process; it is not used again."""
        self.alive = False
        self._process.kill()

    def gone(self) -> None:
        """Wait for the end of a process that was killed."""
        self._process.wait()

    def end(self) -> None:
        """Kill, wait for the end, and give everything back."""
        self.kill()
        self.gone()
        for file in (self._process.stdin, self._process.stdout, self._shared):
            assert file
            file.close()


class _Refused(Exception):
    """The process says why a photo cannot be decoded."""


class _TooSlow(Exception):
    """A photo's time is over."""
