"""The routes. Each request takes one path: key → body → places → decode → worker → answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException

from pyflux_transfer._version import __version__
from pyflux_transfer.data.preprocess import load
from pyflux_transfer.engines.base import Array
from pyflux_transfer.errors import ImageError, InputError
from pyflux_transfer.predict import Prediction, rank
from pyflux_transfer.serving import schemas
from pyflux_transfer.serving.body import Buffer, Upload, content_kind, receive_body, unpack
from pyflux_transfer.serving.devices import environments, max_batch
from pyflux_transfer.serving.keys import Keys
from pyflux_transfer.serving.metrics import Metrics
from pyflux_transfer.serving.middleware import RequestMiddleware
from pyflux_transfer.serving.pool import Lease, Plan, Pool
from pyflux_transfer.serving.problems import CODES, PROBLEMS, Problem
from pyflux_transfer.serving.process import Command, Times
from pyflux_transfer.serving.settings import Settings
from pyflux_transfer.serving.watch import watch

log = logging.getLogger(__name__)

# Bodies up to this size are unpacked in the event loop: that is quicker than a change of threads.
SMALL_BYTES = 256 * 1024
ROUTES = frozenset(
    {"/", "/predict", "/model", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"}
)
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src 'self' blob: data:; form-action 'none'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


# Declared for the OpenAPI page; the check itself takes either header.
_BEARER = HTTPBearer(auto_error=False)
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)


class Service:
    """What the routes share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.api_keys, settings.api_key_file)
        self.metrics = Metrics()
        self.buffer = Buffer(settings.buffer_bytes)
        self.threads = ThreadPoolExecutor(settings.decode_threads, "decode")
        self._pool: Pool | None = None

    @property
    def pool(self) -> Pool:
        """The workers; there are some from the lifespan's start on."""
        assert self._pool
        return self._pool

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Start the workers; at the end answer what was accepted and stop them."""
        self._pool = Pool(_plan(self.settings), self.metrics)
        self.metrics.watch(lambda: self.pool.current.taken, lambda: len(self.pool.current.ready))
        watcher = (
            asyncio.create_task(watch(self.settings.bundle, self.pool.reload))
            if self.settings.reload_model
            else None
        )
        try:
            yield
        finally:
            if watcher:
                watcher.cancel()
            await self.pool.close(self.settings.grace_s)
            self.threads.shutdown(wait=False, cancel_futures=True)

    def reload(self) -> None:
        """Read the key file and the bundle again; what cannot be read leaves the old in place."""
        try:
            self.keys.reload()
        except InputError as error:
            log.error("%s The old keys stay.", error)
        if self._pool:
            self._pool.reload()

    async def predict(self, request: Request, top: int) -> tuple[list[Prediction], Lease]:
        """Answer a request's images, or raise the Problem that stands in the way."""
        limits = self.settings
        content_kind(request.headers)
        with self.buffer.share() as share:
            body = await receive_body(
                request.receive, request.headers, limits.max_body_bytes, limits.receive_s, share.add
            )
            deadline = time.monotonic() + limits.deadline_s
            work = partial(unpack, request.headers, body, limits.max_images)
            uploads = await asyncio.to_thread(work) if len(body) > SMALL_BYTES else work()
            names = [upload.name for upload in uploads]
            with self.pool.admit(len(uploads)) as lease:
                began = time.monotonic()
                await self._decode(uploads, lease, deadline)
                decode_s = time.monotonic() - began
                del body, work, uploads
                share.free()
                rows, times = await _answer(request, lease.submit(deadline), deadline)
        self._observe(request, len(names), decode_s, times)
        return rank(names, rows, lease.description.classes, top), lease

    async def _decode(self, uploads: Sequence[Upload], lease: Lease, deadline: float) -> None:
        preprocessing = lease.description.preprocessing

        def read(upload: Upload) -> Array:
            if isinstance(upload.data, ImageError):
                raise upload.data
            return load(upload.data, preprocessing, max_pixels=self.settings.max_pixels)

        work = [
            lease.fill(place, self.threads, partial(read, upload))
            for place, upload in enumerate(uploads)
        ]
        done, late = await asyncio.wait(work, timeout=deadline - time.monotonic())
        for each in late:
            each.cancel()
        faults = []
        for upload, each in zip(uploads, work, strict=True):
            error = each.exception() if each in done else None
            if isinstance(error, ImageError):
                faults.append({"name": upload.name, "reason": str(error)})
            elif error is not None:
                raise error
        if faults:
            raise Problem(
                "bad_image",
                "; ".join(f"{fault['name']}: {fault['reason']}" for fault in faults[:3]),
                images=faults,
            )
        if late:
            raise _too_late(self.settings.deadline_s)

    def _observe(self, request: Request, images: int, decode_s: float, times: Times) -> None:
        self.metrics.decode_seconds.observe(decode_s)
        self.metrics.queue_seconds.observe(times.queue_s)
        request.scope["state"]["log"] = {
            "images": images,
            "decode_ms": round(1000 * decode_s, 1),
            "queue_ms": round(1000 * times.queue_s, 1),
            "compute_ms": round(1000 * times.compute_s, 1),
            "batch": times.batch,
        }


async def _answer(
    request: Request, answer: asyncio.Future[tuple[Array, Times]], deadline: float
) -> tuple[Array, Times]:
    """Wait for the worker, the deadline or the client's going, whichever comes first."""
    gone = asyncio.ensure_future(request.receive())
    try:
        futures: set[asyncio.Future[Any]] = {answer, gone}
        await asyncio.wait(
            futures,
            timeout=max(0.0, deadline - time.monotonic()),
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        gone.cancel()
    if answer.done():
        return answer.result()
    if gone.done() and not gone.cancelled():
        raise Problem("client_gone", "The connection was closed before the answer.")
    settings: Settings = request.app.state.service.settings
    raise _too_late(settings.deadline_s)


def _too_late(seconds: float) -> Problem:
    return Problem("deadline", f"No answer within {seconds:g} s.")


def _plan(settings: Settings) -> Plan:
    options = {
        "engine": settings.engine,
        "device": settings.device,
        "precision": settings.precision,
    }
    command = Command(
        loader=settings.loader,
        path=settings.bundle.absolute(),
        options=options,
        slots=settings.queue,
        max_batch=max_batch(settings),
        window_s=settings.window_ms / 1000,
        memory=-1,
    )
    return Plan(command, environments(settings), settings.deadline_s, settings.startup_s)


def create_app(settings: Settings) -> FastAPI:
    """Make the ASGI application; its lifespan starts and ends the workers.

    `app.state.reload()` loads the bundle and the API keys again. Raises InputError when the API
    key file cannot be used.
    """
    service = Service(settings)
    app = FastAPI(
        title="PyFlux Transfer",
        version=__version__,
        description="Image classification with a trained bundle.",
        lifespan=service.running,
        redoc_url=None,
        responses={"default": {"model": schemas.ErrorBody, "description": "Anything else"}},
    )
    app.state.service = service
    app.state.reload = service.reload
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(RequestMiddleware, metrics=service.metrics, routes=ROUTES)
    _add_routes(app, service)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    page = files("pyflux_transfer.serving").joinpath("page.html").read_text("utf-8")

    async def key(request: Request) -> None:
        if not service.keys.admit(request.headers):
            raise Problem(
                "unauthorized",
                "This needs an API key, and what was sent is none of the known ones.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    @app.post(
        "/predict",
        dependencies=[Depends(key), Depends(_BEARER), Depends(_HEADER)],
        response_model=schemas.Predictions,
        responses=_errors(400, 401, 408, 413, 415, 422, 429, 500, 503, 504),
        openapi_extra={"requestBody": _BODY},
    )
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=1000, description="Labels an image.")] = 3,
    ) -> Response:
        """Label images: multipart files, one raw image, or base64 in JSON."""
        found, lease = await service.predict(request, top)
        model = lease.description
        return JSONResponse(
            {
                "predictions": [prediction.to_json() for prediction in found],
                "model": {
                    "id": model.id,
                    "architecture": model.architecture,
                    "engine": model.engine,
                },
            }
        )

    @app.get(
        "/model",
        dependencies=[Depends(key), Depends(_BEARER), Depends(_HEADER)],
        response_model=schemas.ModelInfo,
        responses=_errors(401, 503),
    )
    async def model() -> Response:
        """Describe the model that is served."""
        description = service.pool.current.description
        if description is None:
            status = service.pool.status
            raise Problem("no_worker", f"{status.state}: {status.reason}.", retry_after_s=1)
        return JSONResponse(description.to_json())

    @app.get("/livez")
    async def livez() -> schemas.Liveness:
        """Tell that the process is up."""
        return schemas.Liveness()

    @app.get(
        "/readyz",
        response_model=schemas.Readiness,
        responses={503: {"model": schemas.Readiness, "description": "Not ready, and why"}},
    )
    async def readyz() -> Response:
        """Tell whether requests can be answered."""
        status = service.pool.status
        body = {
            "state": status.state,
            "reason": status.reason,
            "workers": {
                "ready": status.ready,
                "wanted": status.wanted,
                "restarts": status.restarts,
            },
        }
        return JSONResponse(body, 200 if status.state == "ready" else 503)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Show the Prometheus metrics."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(page, headers=PAGE_HEADERS)


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    rows: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        codes = [code for code, (number, _) in PROBLEMS.items() if number == status]
        rows[status] = {"model": schemas.ErrorBody, "description": ", ".join(codes)}
    return rows


_FILE = {"type": "string", "format": "binary"}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "array", "items": _FILE, "minItems": 1}},
            }
        },
        "image/*": {"schema": _FILE},
        "application/json": {"schema": schemas.ImageList.model_json_schema()},
    },
}


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return JSONResponse(error.to_json(), error.status, error.headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"]))
    return await _on_problem(request, Problem("invalid", f"{where}: {fault['msg']}."))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "internal")
    problem = Problem(code, f"{request.method} {request.url.path}: {error.detail}.")
    problem.headers.update(error.headers or {})
    return await _on_problem(request, problem)
