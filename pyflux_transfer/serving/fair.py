"""Turns among clients: many large requests of one do not keep a small one of another waiting."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import count as count_from
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


class LargeError(Exception):
    """Raised by a job that turns out to be large: `again` is run in its place, as a large one."""

    def __init__(self, again: Callable[[], Any]) -> None:
        super().__init__()
        self.again = again


@dataclass(frozen=True)
class _Job:
    """A call whose result somebody waits for; `number` tells the order of asking."""

    number: int
    large: bool
    future: Future[Any]
    call: Callable[[], Any]
    begun: bool = False

    def run(self) -> _Job | None:
        """Answer, or return the large job that has to be run for the answer."""
        if self.begun or self.future.set_running_or_notify_cancel():
            try:
                self.future.set_result(self.call())
            except LargeError as error:
                return replace(self, large=True, call=error.again, begun=True)
            except BaseException as error:
                self.future.set_exception(error)
        return None

    def drop(self) -> None:
        if self.begun:
            self.future.set_exception(CancelledError())
        else:
            self.future.cancel()


class _Client:
    """What a client has had, in seconds, and what it waits for: small jobs, and large ones."""

    def __init__(self, used_s: float) -> None:
        self.used_s = used_s
        self.running = 0
        self.waiting: dict[bool, deque[_Job]] = {False: deque(), True: deque()}

    def next(self, large: bool) -> deque[_Job] | None:
        """Return the queue whose first job was asked for first; of large jobs only if they may."""
        queues = [queue for kind, queue in self.waiting.items() if queue and (large or not kind)]
        return min(queues, key=lambda queue: queue[0].number, default=None)


class FairThreads:
    """Threads whose time is shared among clients: who has had the least is next.

    Large jobs leave one thread to the others, of the same client too. A job may find out that it
    is large: see `LargeError`.
    """

    def __init__(self, count: int) -> None:
        self._most_large = count
        self._large = 0
        self._clients: dict[str, _Client] = {}
        self._ready = threading.Condition()
        self._closed = False
        self._numbers = count_from(1)
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
            made = _Job(next(self._numbers), large, future, partial(job, *arguments))
            self._clients[client].waiting[large].append(made)
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
            again = job.run()
            with self._ready:
                client.used_s += time.monotonic() - began
                client.running -= 1
                self._large -= job.large
                if again and self._closed:
                    again.drop()
                elif again:
                    client.waiting[True].append(again)
                elif not client.running and not any(client.waiting.values()):
                    del self._clients[name]
                if job.large:
                    self._ready.notify()

    def _next(self) -> tuple[str, _Job] | None:
        """Take the next job that may run now."""
        may = self._large < self._most_large
        candidates = [
            (client.used_s, name, queue)
            for name, client in self._clients.items()
            if (queue := client.next(large=may)) is not None
        ]
        if not candidates:
            return None
        _, name, queue = min(candidates, key=lambda each: each[:2])
        return name, queue.popleft()

    def close(self) -> None:
        """Drop what has not begun, and let the threads end with what they do."""
        with self._ready:
            self._closed = True
            for client in self._clients.values():
                for queue in client.waiting.values():
                    while queue:
                        queue.popleft().drop()
            self._ready.notify_all()
