"""Turns among clients: many large requests of one do not keep a small one of another waiting."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Turns(Generic[Item]):
    """A queue in which clients take turns, and within a client its requests."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, OrderedDict[Hashable, deque[Item]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, client: str, request: Hashable, item: Item) -> None:
        """Add an item behind those of its request."""
        requests = self._clients.setdefault(client, OrderedDict())
        requests.setdefault(request, deque()).append(item)
        self._count += 1

    def pop(self) -> Item:
        """Return the next item; raise KeyError where there is none."""
        client = next(iter(self._clients), None)
        if client is None:
            raise KeyError("nobody waits")
        requests = self._clients[client]
        request = next(iter(requests))
        item = requests[request].popleft()
        self._count -= 1
        self._move(requests, request, bool(requests[request]))
        self._move(self._clients, client, bool(requests))
        return item

    def discard(self, request: Hashable) -> list[Item]:
        """Remove and return the items of a request."""
        for client, requests in list(self._clients.items()):
            if found := requests.pop(request, None):
                self._count -= len(found)
                if not requests:
                    del self._clients[client]
                return list(found)
        return []

    @staticmethod
    def _move(places: OrderedDict[Any, Any], name: Hashable, more: bool) -> None:
        if more:
            places.move_to_end(name)
        else:
            del places[name]


@dataclass(frozen=True)
class _Job:
    """A call whose result somebody waits for."""

    large: bool
    future: Future[Any]
    call: Callable[[], Any]

    def run(self) -> None:
        if self.future.set_running_or_notify_cancel():
            try:
                self.future.set_result(self.call())
            except BaseException as error:
                self.future.set_exception(error)


class _Client:
    """What a client has had, in seconds, and what it waits for."""

    def __init__(self, used_s: float) -> None:
        self.used_s = used_s
        self.running = 0
        self.waiting: deque[_Job] = deque()


class FairThreads:
    """Threads whose time is shared among clients: who has had the least is next.

    Large jobs leave one thread to the others.
    """

    def __init__(self, count: int) -> None:
        self._most_large = count
        self._large = 0
        self._clients: dict[str, _Client] = {}
        self._ready = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{number}", daemon=True)
            for number in range(count + 1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, client: str, large: bool, job: Callable[..., Result], *arguments: Any
    ) -> Future[Result]:
        """Run a job in a thread when it is its client's turn."""
        future: Future[Result] = Future()

        with self._ready:
            if self._closed:
                future.cancel()
                return future
            if client not in self._clients:
                # A newcomer is even with who has had the least.
                least = min((each.used_s for each in self._clients.values()), default=0.0)
                self._clients[client] = _Client(least)
            self._clients[client].waiting.append(_Job(large, future, partial(job, *arguments)))
            self._ready.notify()
        return future

    def _work(self) -> None:
        while True:
            with self._ready:
                while (chosen := self._next()) is None:
                    if self._closed:
                        return
                    self._ready.wait()
                name, job = chosen
                client = self._clients[name]
                client.running += 1
                self._large += job.large
            began = time.monotonic()
            job.run()
            with self._ready:
                client.used_s += time.monotonic() - began
                client.running -= 1
                self._large -= job.large
                if not client.running and not client.waiting:
                    del self._clients[name]
                if job.large:
                    self._ready.notify()

    def _next(self) -> tuple[str, _Job] | None:
        """Take the next job that may run now."""
        full = self._large >= self._most_large
        candidates = [
            (client.used_s, name)
            for name, client in self._clients.items()
            if client.waiting and not (full and client.waiting[0].large)
        ]
        if not candidates:
            return None
        name = min(candidates)[1]
        return name, self._clients[name].waiting.popleft()

    def close(self) -> None:
        """Drop what has not begun, and let the threads end with what they do."""
        with self._ready:
            self._closed = True
            for client in self._clients.values():
                while client.waiting:
                    client.waiting.popleft().future.cancel()
            self._ready.notify_all()
