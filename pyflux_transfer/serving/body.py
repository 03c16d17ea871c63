"""A request's body: received within limits that hold while it is streamed, then unpacked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyflux_transfer.serving.form import unpack_form
from pyflux_transfer.serving.problems import Problem
from pyflux_transfer.serving.texts import unpack_texts
from pyflux_transfer.serving.uploads import Upload

Receive = Callable[[], Awaitable[Any]]


class Buffer:
    """Counts the bytes of all bodies that are held, so that many senders cannot fill the memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Give one request's share; what it holds is given back at the end at the latest."""
        share = Share(self)
        try:
            yield share
        finally:
            share.free()


class Share:
    """The bytes of one request's body."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._held = 0

    def add(self, size: int) -> None:
        """Count bytes in; raise Problem `queue_full` when all bodies together are too many."""
        if self._buffer.held + size > self._buffer.limit:
            raise Problem("queue_full", "Too many uploads are being received.", retry_after_s=1)
        self._held += size
        self._buffer.held += size

    def free(self) -> None:
        """Count them out: the body is not needed any more."""
        self._buffer.held -= self._held
        self._held = 0


async def receive_body(
    receive: Receive,
    headers: Mapping[str, str],
    limit: int,
    seconds: float,
    count: Callable[[int], None],
) -> bytes:
    """Read a body of at most `limit` bytes within `seconds`; `count` is told of each piece.

    Raises Problem: `too_large` (at once where Content-Length says so), `slow_request`,
    `client_gone`, `malformed_body` when it is empty.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(int(declared), limit)

    async def collect() -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Problem("client_gone", "The connection was closed within the body.")
            piece = message.get("body", b"")
            size += len(piece)
            if size > limit:
                raise _too_large(size, limit)
            count(len(piece))
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)

    body = await _within(seconds, collect())
    if not body:
        raise Problem("malformed_body", "The body is empty.")
    return body


async def _within(seconds: float, collecting: Coroutine[Any, Any, bytes]) -> bytes:
    """Return what is collected; raise Problem `slow_request` when the seconds are over.

    It runs in the caller's own task: `asyncio.wait_for` makes one for each body, which takes as
    long as all the rest.
    """
    task, late = asyncio.current_task(), False
    assert task

    def expire() -> None:
        nonlocal late
        late = True
        task.cancel()

    alarm = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        return await collecting
    except asyncio.CancelledError:
        if not late:
            raise
        if sys.version_info >= (3, 11):
            task.uncancel()
        raise Problem("slow_request", f"The body was not complete after {seconds:g} s.") from None
    finally:
        alarm.cancel()


def _too_large(size: int, limit: int) -> Problem:
    return Problem("too_large", f"The body has {size} bytes or more; at most {limit} are taken.")


def content_kind(headers: Mapping[str, str]) -> str:
    """Return "multipart", "json" or "image"; raise Problem `unsupported_type` for anything else."""
    encoding = headers.get("content-encoding", "")
    if encoding.strip().lower() not in ("", "identity"):
        raise Problem("unsupported_type", f"Content-Encoding {encoding!r} is not taken.")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return "multipart"
    if kind == "application/json":
        return "json"
    if kind.startswith("image/"):
        return "image"
    raise Problem("unsupported_type", f"Content-Type {kind!r} is not taken.")


def unpack(headers: Mapping[str, str], body: bytes, most: int) -> list[Upload]:
    """Return the images of a body, at least one and at most `most`; see `content_kind`."""
    kind = content_kind(headers)
    if kind == "image":
        return [Upload("image", body)]
    if kind == "json":
        return unpack_texts(body, most)
    return unpack_form(headers["content-type"], body, most)
