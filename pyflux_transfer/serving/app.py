"""The routes, and what their OpenAPI page says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from pyflux_transfer._version import __version__
from pyflux_transfer.serving import schemas
from pyflux_transfer.serving.headers import PAGE_POLICY
from pyflux_transfer.serving.middleware import RequestMiddleware
from pyflux_transfer.serving.problems import CODES, PROBLEMS, Problem
from pyflux_transfer.serving.service import Service
from pyflux_transfer.serving.settings import Settings

ROUTES = frozenset(
    {"/", "/predict", "/model", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"}
)


# Declared for the OpenAPI page; the check itself takes either header.
_BEARER = HTTPBearer(auto_error=False)
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)


def create_app(settings: Settings) -> FastAPI:
    """Make the ASGI application; its lifespan starts and ends the workers.

    `app.state.reload()` loads the bundle and the API keys again; `app.state.failure()` says why the
    bundle can never be served, when that is so. Raises InputError when the API
    key file cannot be used.
    """
    service = Service(settings)
    app = FastAPI(
        title="PyFlux Transfer",
        version=__version__,
        description="Image classification with a trained bundle.",
        lifespan=service.running,
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": schemas.ErrorBody, "description": "Anything else"}},
    )
    app.state.service = service
    app.state.reload = service.reload
    app.state.failure = lambda: service.failure
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(RequestMiddleware, metrics=service.metrics, routes=ROUTES)
    if service.tracing:
        app.add_middleware(service.tracing.around)
    _add_routes(app, service)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    folder = files("pyflux_transfer.serving")
    page, docs = (folder.joinpath(name).read_text("utf-8") for name in ("page.html", "docs.html"))

    async def key(request: Request) -> None:
        if not service.keys.admit(request.headers):
            raise Problem(
                "unauthorized",
                "This needs an API key, and what was sent is none of the known ones.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=1000, description="Labels an image.")] = 3,
        explain: Annotated[bool, Query(description="Add heat maps, small PNGs as data.")] = False,
    ) -> Response:
        """Label images: multipart files, one raw image, or base64 in JSON."""
        found, lease = await service.predict(request, top, explain)
        model = lease.description
        rows = [prediction.to_json() for prediction in found]
        for row, heat in zip(rows, lease.heats if explain else [], strict=explain):
            row["heat_map"] = heat and f"data:image/png;base64,{heat}"
        return JSONResponse(
            {
                "predictions": rows,
                "model": {
                    "id": model.id,
                    "architecture": model.architecture,
                    "engine": model.engine,
                },
            }
        )

    app.router.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        dependencies=[Depends(key), Depends(_BEARER), Depends(_HEADER)],
        response_model=schemas.Predictions,
        responses=_errors(400, 401, 408, 413, 415, 422, 429, 500, 503, 504),
        openapi_extra={"requestBody": _BODY},
        route_class_override=_direct(key),
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
            raise Problem(
                "no_worker",
                f"{status.state}: {status.reason}.",
                retry_after_s=service.pool.current.wait_s,
            )
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
        return HTMLResponse(page, headers=PAGE_POLICY)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def description() -> Response:
        return HTMLResponse(docs, headers=PAGE_POLICY)


def _direct(admit: Callable[[Request], Awaitable[None]]) -> type[APIRoute]:
    """Return a kind of route that calls its endpoint straight away where there is no query.

    FastAPI's own way, which looks for parameters and dependencies anew at each request, takes a
    sixth of the web process's time; a query still goes through it.
    """

    class Direct(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["query_string"] or scope["method"] not in (self.methods or ()):
                await super().handle(scope, receive, send)
                return
            request = Request(scope, receive, send)
            await admit(request)
            response = await self.endpoint(request)
            await response(scope, receive, send)

    return Direct


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
