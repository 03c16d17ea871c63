"""HTTP/1.1 as h11 reads it, with an end for every connection that sends, or reads, too slowly.

h11 bounds headers and trailers, answers an offered upgrade as the request it is, and stops reading
while a request is answered. uvicorn's faster parser does none of these.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pyflux_transfer.serving.problems import Problem

MAX_HEADER_BYTES = 64 * 1024
# Chunks below this size are counted: each costs as much time as a large one.
SMALL_CHUNK_BYTES = 64
MAX_SMALL_CHUNKS = 4096
SWEEP_S = 1.0


class Crowd:
    """All connections of a server: so many at most, and none that leaves its answers unread."""

    def __init__(self, most: int, unread_s: float) -> None:
        self.most = most
        self.unread_s = unread_s
        self._members: dict[Guarded, float | None] = {}  # the oldest first; since when unread
        self._sweeping = False

    def join(self, connection: Guarded) -> bool:
        """Take a connection in, if need be in the place of the oldest that waits; or refuse it."""
        if len(self._members) >= self.most:
            idle = next((each for each in self._members if not each.answering), None)
            if idle is None:
                return False
            self.leave(idle)
            idle.transport.abort()
        self._members[connection] = None
        if not self._sweeping:
            self._sweeping = True
            connection.loop.call_later(SWEEP_S, self._sweep, connection.loop)
        return True

    def leave(self, connection: Guarded) -> None:
        """Count a connection out."""
        self._members.pop(connection, None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for connection, since in list(self._members.items()):
            if not connection.transport.get_write_buffer_size():
                self._members[connection] = None
            elif since is None:
                self._members[connection] = now
            elif now - since > self.unread_s:
                connection.transport.abort()
        self._sweeping = bool(self._members)
        if self._sweeping:
            loop.call_later(SWEEP_S, self._sweep, loop)


class Connection(h11.Connection):
    """h11's connection, with a limit on chunks of a few bytes."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEADER_BYTES)
        self._small = 0
        self.fault = ""  # what was wrong with the bytes that were refused

    def next_event(self) -> Any:
        """Return the next event; raise RemoteProtocolError for too many small chunks."""
        try:
            return self._next_event()
        except h11.RemoteProtocolError as error:
            large = error.error_status_hint == 431
            self.fault = "The headers are too large." if large else f"This is not HTTP: {error}."
            raise

    def _next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._small = 0
        elif isinstance(event, h11.Data) and len(event.data) < SMALL_CHUNK_BYTES:
            self._small += 1
            if self._small > MAX_SMALL_CHUNKS:
                raise h11.RemoteProtocolError("too many small chunks")
        return event


class Guarded(H11Protocol):
    """uvicorn's protocol, with limits on connections and on the time of headers.

    `crowd` and `header_s` are set by a subclass, one a server.
    """

    crowd: Crowd
    header_s = 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn: Connection = Connection()
        self._alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: the first headers are due."""
        super().connection_made(transport)
        if not self.crowd.join(self):
            self._refuse(Problem("overloaded", "Too many connections.", retry_after_s=1))
            return
        self._wind()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self.crowd.leave(self)
        self._stop()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; between requests, the clock runs from the first byte of the headers."""
        super().data_received(data)
        if self.answering:
            self._stop()
        elif self._alarm is None:
            self._wind()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with the error body of all others, and close."""
        if self.answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.answering and self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(Problem("malformed_body", self.conn.fault or msg))

    def _refuse(self, problem: Problem) -> None:
        body = json.dumps(problem.to_json()).encode()
        lines = [
            f"HTTP/1.1 {problem.status} Refused",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *(f"{name.lower()}: {value}" for name, value in problem.headers.items()),
            "connection: close",
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()

    @property
    def answering(self) -> bool:
        """Tell whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _should_upgrade(self) -> bool:
        return False  # an offer, which need not be taken

    def _wind(self) -> None:
        self._alarm = self.loop.call_later(self.header_s, self._expire)

    def _stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _expire(self) -> None:
        self._alarm = None
        if not self.answering and not self.transport.is_closing():
            self.transport.close()
