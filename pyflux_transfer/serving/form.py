"""The multipart form of a request: its parts that are files, as browsers and libraries send."""

from __future__ import annotations

import re
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pyflux_transfer.serving.problems import Problem
from pyflux_transfer.serving.uploads import Upload, from_base64, too_many

NAME_LENGTH = 255
MAX_HEADER_BYTES = 16 * 1024  # of a part: it holds the file's name
MAX_FIELDS = 256  # parts that are no files: tokens, comments
# RFC 5987: filename*=UTF-8''na%C3%AFve.jpg
_EXTENDED = re.compile(rb"filename\*\s*=\s*\"?([\w-]+)'[^']*'([^;\"\s]*)", re.IGNORECASE)
_ENCODINGS = {"utf-8", "iso-8859-1"}  # those of RFC 5987


def unpack_form(content_type: str, body: bytes, most: int) -> list[Upload]:
    """Return the files of a multipart body, at least one and at most `most`.

    Raises Problem: `malformed_body`, `too_many_images`, `invalid`.
    """
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
            max_header_size=MAX_HEADER_BYTES,
        )
        parser.write(_without_preamble(body, boundary))
    except FormParserError as error:
        raise Problem("malformed_body", f"The multipart body cannot be read: {error}.") from None
    if not parts.finished:
        raise Problem(
            "malformed_body", "The multipart body ends early, or its boundary is another one."
        )
    if not parts.uploads:
        raise Problem("invalid", "The form has no part with a file. Name it `file`.")
    return parts.uploads


def _without_preamble(body: bytes, boundary: bytes) -> bytes:
    """Drop what stands before the first boundary: RFC 2046 allows it, the parser does not."""
    if body.startswith(b"--" + boundary):
        return body
    place = body.find(b"\r\n--" + boundary)
    return body if place < 0 else body[place + 2 :]


class _Parts:
    """Collects the parts that are files; other form fields are counted and passed over."""

    def __init__(self, most: int) -> None:
        self.uploads: list[Upload] = []
        self.finished = False
        self._most = most
        self._fields = 0
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []

    def begin(self) -> None:
        self._headers, self._pieces = {}, []

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        options = parse_options_header(disposition)[1]
        name = _extended_name(disposition) or options.get(b"filename")
        data = b"".join(self._pieces)
        # A file input that was left empty is sent as a part without a name and a byte.
        if (name is None and options.get(b"name") != b"file") or (name == b"" and not data):
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise Problem("invalid", f"The form has more than {MAX_FIELDS} other fields.")
            return
        if len(self.uploads) == self._most:
            raise too_many(self._most)
        shown = (name or b"").decode("utf-8", "replace")[:NAME_LENGTH]
        printable = "".join(c if c.isprintable() else "�" for c in shown)
        encoding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        self.uploads.append(
            Upload(
                printable or f"image {len(self.uploads)}",
                from_base64(data) if encoding == b"base64" else data,
            )
        )

    def finish(self) -> None:
        self.finished = True


def _extended_name(disposition: bytes) -> bytes | None:
    found = _EXTENDED.search(disposition)
    if not found:
        return None
    encoding, quoted = (part.decode("latin-1") for part in found.groups())
    if encoding.lower() not in _ENCODINGS:
        return None
    return unquote(quoted, encoding, "replace").encode("utf-8", "replace")
