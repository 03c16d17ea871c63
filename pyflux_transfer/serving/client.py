"""Send files to a running service: what `pyflux-transfer predict --url` does."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx

from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.dataset import Skipped
from pyflux_transfer.data.decode import Source
from pyflux_transfer.data.entries import Content
from pyflux_transfer.data.reading import read_content, read_file
from pyflux_transfer.errors import ImageError, InputError, ServiceError
from pyflux_transfer.predict import Prediction, sources

# Answers that mean "later": too busy, or a worker that is being replaced.
_LATER = (429, 503)
# Answers that concern the one file that was sent; after any other none can be answered.
_OF_ONE_FILE = (400, 411, 413, 415, 422, 500, 504)


def predict(
    url: str,
    given: str | Path | Iterable[str | Path],
    *,
    top: int = 3,
    key: str = "",
    timeout_s: float = 60.0,
    connections: int = 4,
) -> Iterator[Prediction | Skipped]:
    """Yield a Prediction for each file in order, or Skipped with the service's reason.

    `given` is a file, a folder or several. A busy service is asked again, as it asks for, until
    `timeout_s` have gone by for a file. A file that cannot be read or answered costs no other.
    Raises ServiceError when the service cannot be reached or refuses.
    """
    named = sources(given)
    headers = {"X-API-Key": key} if key else {}
    try:
        client = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout_s)
    except httpx.InvalidURL as error:
        raise InputError(f"{url!r} is no address: {error}. Write http://host:port.") from None
    with client:

        def send(item: tuple[str, Source]) -> Prediction | Skipped:
            name, source = item
            path = Path(source if isinstance(source, (str, Path)) else name)
            try:
                content = _content(path, source)
            except ImageError as error:
                return Skipped(path, str(error))
            answer = _ask(client, name, content, top, timeout_s)
            if answer.status_code == 422 and _error(answer).get("code") == "bad_image":
                return Skipped(path, f"'{path}': {_error(answer)['images'][0]['reason']}")
            if answer.status_code != 200:
                said = f"'{path}': {url} answers {answer.status_code}: {_reason(answer)}"
                if answer.status_code in _OF_ONE_FILE:
                    return Skipped(path, said)
                raise ServiceError(said)
            return _prediction(answer.json()["predictions"][0])

        yield from map_ahead(send, named, workers=connections, ahead=2 * connections)


def _content(path: Path, source: Source) -> bytes:
    """Return the bytes of a file, or of an image within a table."""
    if isinstance(source, (str, Path)):
        return read_file(source, None)
    return read_content(path, cast(Content, source), None)


def _ask(
    client: httpx.Client, name: str, content: bytes, top: int, timeout_s: float
) -> httpx.Response:
    """Send one file; wait and send again while the service asks for that."""
    ends = time.monotonic() + timeout_s
    while True:
        try:
            answer = client.post("/predict", params={"top": top}, files={"file": (name, content)})
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise ServiceError(
                f"{client.base_url} cannot be reached ({error or type(error).__name__}). "
                "Is the service running? Start it with: pyflux-transfer serve BUNDLE"
            ) from None
        wait_s = float(answer.headers.get("Retry-After", "1"))
        if answer.status_code not in _LATER or time.monotonic() + wait_s > ends:
            return answer
        time.sleep(wait_s)


def _error(answer: httpx.Response) -> dict[str, Any]:
    """Return the service's own error, or nothing where a proxy answered in its place."""
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def _reason(answer: httpx.Response) -> str:
    error = _error(answer)
    return f"{error['message']} {error['hint']}" if error else answer.text[:200]


def _prediction(row: dict[str, Any]) -> Prediction:
    top = tuple((entry["label"], entry["probability"]) for entry in row["top"])
    known = (row.get("belonging"), row.get("sure"))
    return Prediction(row["name"], row["label"], row["probability"], top, *known)
