"""One thread that owns a foreign runtime: any thread asks, this one calls, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as ExpiredError
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class Owner:
    """Runs functions one after another in a thread of its own, which begins with the first.

    The thread ends with the process: a runtime must not lose the thread that started it.
    """

    def __init__(self, name: str, stack_bytes: int = 0) -> None:
        self._name = name
        self._stack_bytes = stack_bytes
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, work: Callable[[], Result], timeout_s: float | None = None) -> Result:
        """Return what `work` returns there, or raise what it raises, without its frames.

        A signal that interrupts the wait leaves at once: what has not begun is dropped, what runs
        goes on and everything asked for later waits for it. Raises TimeoutError after `timeout_s`.
        """
        if threading.current_thread() is self._begun():
            return work()
        job: Future[Result] = Future()
        self._jobs.put((work, job))
        try:
            return job.result(timeout_s)
        except ExpiredError:
            if job.done():
                raise
            raise TimeoutError(f"The {self._name} thread was busy for {timeout_s} s.") from None
        finally:
            job.cancel()  # without effect where it has begun

    def _begun(self) -> threading.Thread:
        with self._lock:
            if self._thread is None:
                usual = threading.stack_size(self._stack_bytes)
                try:
                    thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                    thread.start()
                finally:
                    threading.stack_size(usual)
                self._thread = thread
            return self._thread

    def _work(self) -> None:
        while True:
            self._do(*self._jobs.get())  # nothing of a job is held while the next one is awaited

    @staticmethod
    def _do(work: Callable[[], Any], job: Future[Any]) -> None:
        if not job.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:
            # Frames hold the runtime's objects, which no other thread may drop.
            error.__traceback__ = error.__context__ = error.__cause__ = None
            job.set_exception(error)
        else:
            job.set_result(result)
