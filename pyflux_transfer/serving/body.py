"""From a request's body to named image files, within limits that hold while it is streamed."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pyflux_transfer.errors import ImageError
from pyflux_transfer.serving.problems import Problem
from pyflux_transfer.serving.schemas import ImageList

Receive = Callable[[], Awaitable[Any]]
NAME_LENGTH = 255


@dataclass(frozen=True)
class Upload:
    """One image file as it was sent; `data` is the reason where it could not even be unpacked."""

    name: str
    data: bytes | ImageError


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

    try:
        body = await asyncio.wait_for(collect(), seconds)
    except asyncio.TimeoutError:
        raise Problem("slow_request", f"The body was not complete after {seconds:g} s.") from None
    if not body:
        raise Problem("malformed_body", "The body is empty.")
    return body


def _too_large(size: int, limit: int) -> Problem:
    return Problem("too_large", f"The body has {size} bytes or more; at most {limit} are taken.")


def content_kind(headers: Mapping[str, str]) -> str:
    """Return "multipart", "json" or "image"; raise Problem `unsupported_type` for anything else."""
    if encoding := headers.get("content-encoding"):
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
        return _unpack_json(body, most)
    return _unpack_multipart(headers["content-type"], body, most)


def _unpack_json(body: bytes, most: int) -> list[Upload]:
    try:
        images = ImageList.model_validate_json(body).images
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, fault["loc"]))
        malformed = fault["type"] == "json_invalid"
        raise Problem(
            "malformed_body" if malformed else "invalid",
            fault["msg"] if malformed else f"{where or 'body'}: {fault['msg']}.",
        ) from None
    if len(images) > most:
        raise _too_many(len(images), most)
    return [Upload(f"image {place}", _from_base64(text)) for place, text in enumerate(images)]


def _from_base64(text: str) -> bytes | ImageError:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        return ImageError(f"it is not base64 ({error}).")


def _unpack_multipart(content_type: str, body: bytes, most: int) -> list[Upload]:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Problem("malformed_body", "The Content-Type names no boundary.")
    parts = _Parts(most)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.header_name,
                "on_header_value": parts.header_value,
                "on_header_end": parts.header_end,
                "on_part_data": parts.data,
                "on_part_end": parts.end,
                "on_end": parts.finish,
            },
        )
        parser.write(body)
    except FormParserError as error:
        raise Problem("malformed_body", f"The multipart body cannot be read: {error}.") from None
    if not parts.finished:
        raise Problem(
            "malformed_body", "The multipart body ends early, or its boundary is another one."
        )
    if not parts.uploads:
        raise Problem("invalid", "The form has no part with a file. Name it `file`.")
    return parts.uploads


class _Parts:
    """Collects the parts that are files; other form fields are passed over."""

    def __init__(self, most: int) -> None:
        self.uploads: list[Upload] = []
        self.finished = False
        self._most = most
        self._seen = 0
        self._name = self._value = b""
        self._disposition = b""
        self._pieces: list[bytes] = []

    def begin(self) -> None:
        self._seen += 1
        if self._seen > self._most:
            raise _too_many(self._seen, self._most)
        self._disposition, self._pieces = b"", []

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def end(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name = options.get(b"filename")
        if name is None and options.get(b"name") != b"file":
            return
        shown = (name or b"").decode("utf-8", "replace")[:NAME_LENGTH]
        printable = "".join(c if c.isprintable() else "�" for c in shown)
        data = b"".join(self._pieces)
        self.uploads.append(Upload(printable or f"image {len(self.uploads)}", data))

    def finish(self) -> None:
        self.finished = True


def _too_many(count: int, most: int) -> Problem:
    return Problem("too_many_images", f"The request has {count} images or more; at most {most}.")
