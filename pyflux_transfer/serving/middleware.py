"""Around every request: its id, its log line, its metrics, and the end of its body."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from pyflux_transfer.serving.headers import secure
from pyflux_transfer.serving.logs import ACCESS
from pyflux_transfer.serving.metrics import Metrics
from pyflux_transfer.serving.problems import Problem

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# An id that a client sends goes into logs and headers, so it must be harmless there.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_ABSOLUTE = re.compile(r"https?://[^/]*(/.*)?", re.IGNORECASE | re.DOTALL)
# What a sender still sends behind a refusal is read and dropped for so long: closing at once
# would reset the connection, and most clients would then never see the answer.
LINGER_S = 2.0
LINGER_BYTES = 128 * 1024 * 1024


class RequestMiddleware:
    """ASGI middleware; `routes` are the paths that may be labels of metrics."""

    def __init__(self, app: App, metrics: Metrics, routes: frozenset[str]) -> None:
        self.app = app
        self.metrics = metrics
        self.routes = routes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, scope = scope["method"], _as_routed(scope)
        exchange = Exchange(scope, receive, send)
        began = time.monotonic()
        self.metrics.in_flight.inc()
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception:
            log.exception(
                "request %s failed", exchange.id, extra={"fields": {"request_id": exchange.id}}
            )
            if exchange.status:
                raise
            await exchange.refuse(Problem("internal", "The service failed on this request."))
        except asyncio.CancelledError:
            # The server gives up on what is still unanswered when its grace time ends.
            if exchange.status:
                raise
            await exchange.refuse(Problem("no_worker", "The service is ending.", retry_after_s=1))
        finally:
            self.metrics.in_flight.dec()
            self._note(method, scope, exchange, time.monotonic() - began)

    def _note(
        self, method: str, scope: MutableMapping[str, Any], exchange: Exchange, seconds: float
    ) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        route = path if path in self.routes else "other"
        self.metrics.requests.labels(route, str(exchange.status)).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        if not ACCESS.isEnabledFor(logging.INFO):
            return
        client = scope.get("client")
        fields = {
            "request_id": exchange.id,
            "method": method,
            "path": path,
            "status": exchange.status,
            "ms": round(1000 * seconds, 1),
            "client": client[0] if client else "",
            **scope["state"].get("log", {}),
        }
        ACCESS.info("request", extra={"fields": fields})


def _as_routed(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return the request as the routes know it.

    HEAD is answered as GET is, and the server leaves the body out; proxies may name the whole
    address instead of the path.
    """
    changed = dict(scope)
    if scope["method"] == "HEAD":
        changed["method"] = "GET"
    root = scope.get("root_path", "")
    absolute = _ABSOLUTE.match(scope["path"].removeprefix(root))
    if absolute:
        changed["path"] = root + (absolute[1] or "/")
        changed["raw_path"] = changed["path"].encode()
    return changed


class Exchange:
    """One request and its answer, seen from outside the app."""

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
        self.status = 0
        self._scope = scope
        self._receive = receive
        self._send = send
        length = headers.get("content-length", "0")
        self._body_left = length != "0" or "transfer-encoding" in headers
        scope.setdefault("state", {})["request_id"] = self.id

    async def receive(self) -> Message:
        """Pass on a piece of the request."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_left = False
        return message

    async def send(self, message: Message) -> None:
        """Pass on a piece of the answer; before its end, see to the rest of the request."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.id
            secure(headers)
            if self._body_left:
                headers["Connection"] = "close"
        elif self._body_left and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            # Cancelled when the service ends: the answer is complete, so no more is waited for.
            with contextlib.suppress(asyncio.TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._drain(), LINGER_S)
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem."""
        answer = JSONResponse(problem.to_json(), problem.status, problem.headers)
        await answer(self._scope, self.receive, self.send)

    async def _drain(self) -> None:
        dropped = 0
        while self._body_left and dropped < LINGER_BYTES:
            dropped += len((await self.receive()).get("body", b""))
