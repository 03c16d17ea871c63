"""The HTTP server: uvicorn with a drain that exits 0, SIGHUP, and limits on slow headers."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from pyflux_transfer.errors import InputError, ServiceError
from pyflux_transfer.serving import logs
from pyflux_transfer.serving.app import create_app
from pyflux_transfer.serving.problems import Problem
from pyflux_transfer.serving.settings import Settings

log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 64 * 1024


class GuardedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP protocol, with a limit on the size and the time of the headers.

    Without it a connection that sends nothing, or a byte now and then, stays open for ever.
    """

    header_s = 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._alarm: asyncio.TimerHandle | None = None
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the clock: the first headers are due."""
        super().connection_made(transport)
        self._wind()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; between requests, the clock runs from the first byte of the headers."""
        super().data_received(data)
        if self._answering:
            self._stop()
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")
        elif self._alarm is None:
            self._wind()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with the error body of all others, and close."""
        body = json.dumps(Problem("malformed_body", msg).to_json()).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wind(self) -> None:
        self._alarm = self.loop.call_later(self.header_s, self._expire)

    def _stop(self) -> None:
        self._header_bytes = 0
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _expire(self) -> None:
        self._alarm = None
        if not self._answering and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server; SIGTERM and SIGINT drain and then exit 0, SIGHUP calls `reload`.

    It ends with `status` 1 when `failure` says why nothing can ever be served.
    """

    def __init__(
        self, config: uvicorn.Config, reload: Callable[[], None], failure: Callable[[], str]
    ) -> None:
        super().__init__(config)
        self.status = 0
        self._reload = reload
        self._failure = failure

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals for as long as the server runs, without raising them again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()

        def hang_up(*_: object) -> None:
            loop.call_soon_threadsafe(self._reload)

        # Not the loop's own handler: the end of the loop would give the signal its deadly meaning.
        signal.signal(signal.SIGHUP, hang_up)
        before = {number: signal.signal(number, self.handle_exit) for number in _END}
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            for number, handler in before.items():
                signal.signal(number, handler)

    async def on_tick(self, counter: int) -> bool:
        """Look after the server's own business, and whether there is still sense in it."""
        if failure := self._failure():
            log.error("ending: %s", failure)
            self.status = 1
            return True
        return await super().on_tick(counter)


_END = (signal.SIGINT, signal.SIGTERM)


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status: 0 after a drain, 1 where it cannot.

    Raises InputError for TLS or API key files that cannot be used, ServiceError where the system
    lacks what the workers need.
    """
    if sys.platform == "win32":
        raise ServiceError("The service needs a POSIX system. On Windows, use WSL or a container.")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to load again
    logs.configure(settings.log_format, settings.log_level)
    app = create_app(settings)
    protocol = type("Protocol", (GuardedProtocol,), {"header_s": settings.receive_s})
    password = settings.ssl_keyfile_password
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        root_path=settings.root_path,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        ssl_keyfile_password=password.get_secret_value() if password else None,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.grace_s,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one, too
        raise InputError(f"The TLS files cannot be used: {error}.") from None
    server = Server(config, app.state.reload, app.state.failure)
    try:
        server.run()
    except SystemExit:  # uvicorn's way to say that it could not start; it has logged why
        return 1
    return server.status
