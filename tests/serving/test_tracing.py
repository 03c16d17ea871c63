"""Spans of a request; needs the `otel` extra."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pyflux_transfer.errors import ServiceError
from pyflux_transfer.serving.flight import Times
from pyflux_transfer.serving.tracing import Tracing


def test_a_missing_package_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter", None)
    with pytest.raises(ServiceError, match=r"pyflux-transfer\[otel\]"):
        Tracing()


def test_a_request_is_a_span_with_its_parts() -> None:
    pytest.importorskip("opentelemetry.instrumentation.asgi")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    tracing = Tracing(exporter)

    async def app(_: dict[str, Any], __: Any, send: Any) -> None:
        tracing.note(2, 0.02, Times(0.001, 0.05, 4))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(_: dict[str, Any]) -> None:
        pass

    traced = tracing.around(app)
    for path in ("/predict", "/livez"):
        scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
        asyncio.run(traced({**scope, "scheme": "http", "server": ("x", 80)}, receive, send))
    tracing.close()
    spans = {span.name: span for span in exporter.get_finished_spans() if span.parent}
    assert set(spans) == {"decode", "queue", "compute"}
    assert spans["compute"].attributes["batch"] == 4
    assert spans["decode"].end_time <= spans["queue"].start_time + 1
    names = {span.resource.attributes["service.name"] for span in exporter.get_finished_spans()}
    assert names == {"pyflux-transfer"}
