"""The HTTP server: uvicorn with a drain that exits 0, SIGHUP, and limits on connections."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from pyflux_transfer.errors import InputError, ServiceError
from pyflux_transfer.serving import logs, tls
from pyflux_transfer.serving.app import create_app
from pyflux_transfer.serving.devices import environments
from pyflux_transfer.serving.protocol import Crowd, Guarded
from pyflux_transfer.serving.settings import Settings

log = logging.getLogger(__name__)

# Descriptors that connections leave alone: workers, decoders and their pipes, files.
RESERVED = 48
MOST_DESCRIPTORS = 65_536


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


class Config(uvicorn.Config):
    """uvicorn's configuration, with an event loop that gives TLS handshakes a deadline."""

    handshake_s = 30.0

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """Return what makes the event loop."""
        import uvloop

        seconds = self.handshake_s

        class Loop(uvloop.Loop):
            async def create_server(self, *args: Any, **kwargs: Any) -> Any:
                if kwargs.get("ssl"):
                    kwargs["ssl_handshake_timeout"] = seconds
                return await super().create_server(*args, **kwargs)

        return Loop


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status: 0 after a drain, 1 where it cannot.

    Raises InputError for TLS or API key files that cannot be used, ServiceError where the system
    lacks what the workers need.
    """
    # Before what Windows lacks (uvloop, resource, SIGHUP) is imported or used.
    if sys.platform == "win32":
        raise ServiceError("The service needs a POSIX system. On Windows, use WSL or a container.")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to load again
    logs.configure(settings.log_format, settings.log_level)
    tls.check(settings)
    app = create_app(settings)
    crowd = Crowd(_most_connections(settings), settings.receive_s)
    protocol = type("Protocol", (Guarded,), {"crowd": crowd, "header_s": settings.receive_s})
    password = settings.ssl_keyfile_password
    config = Config(
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
    config.handshake_s = settings.receive_s
    config.load()
    _warn(settings, app.state.service.keys.wanted)

    def reload() -> None:
        app.state.reload()
        if config.ssl:
            try:
                tls.check(settings)
                tls.load(config.ssl, settings)
            except InputError as error:
                log.error("%s The old certificate stays.", error)

    server = Server(config, reload, app.state.failure)
    # What is loaded now stays: not to look through it again and again saves a part of the time.
    gc.collect()
    gc.freeze()
    try:
        server.run()
    except SystemExit:  # uvicorn's way to say that it could not start; it has logged why
        return 1
    return server.status


def _most_connections(settings: Settings) -> int:
    """Raise this process's limit of descriptors; return what of it connections may take."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    processes = settings.decode_threads + 2 * len(environments(settings))
    return max(8, min(settings.max_connections, soft - RESERVED - 4 * processes))


def _warn(settings: Settings, key_wanted: bool) -> None:
    try:
        local = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        local = settings.host == "localhost"
    if not local and not key_wanted:
        log.warning(
            "listening on %s without an API key: whoever reaches the port may predict. "
            "Set PYFLUX_API_KEYS or --api-key-file.",
            settings.host,
        )
