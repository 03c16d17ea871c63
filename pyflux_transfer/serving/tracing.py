"""OpenTelemetry, where it is asked for: a span a request, and its decoding, queue and computing.

Where traces go is said by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, …).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from pyflux_transfer.errors import ServiceError
from pyflux_transfer.serving.flight import Times

_MISSING = "Traces need more packages ({}). Run: pip install 'pyflux-transfer[otel]'"
# Probes would be most of the traces, and say nothing.
_UNTRACED = "livez,readyz,metrics"

App = Callable[..., Any]


class Tracing:
    """Spans of one service; `exporter` is OTLP's over HTTP unless another is given."""

    def __init__(self, exporter: Any = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise ServiceError(_MISSING.format(error.name)) from None
        name = os.environ.get("OTEL_SERVICE_NAME", "pyflux-transfer")
        resource = Resource.create({SERVICE_NAME: name})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(__name__)

    def around(self, app: App) -> App:
        """Return an ASGI application whose requests are spans, parts of their callers' traces."""
        try:
            from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        except ModuleNotFoundError as error:
            raise ServiceError(_MISSING.format(error.name)) from None
        traced: App = OpenTelemetryMiddleware(
            app,
            excluded_urls=_UNTRACED,
            tracer_provider=self._provider,
            exclude_spans=["receive", "send"],
        )
        return traced

    def note(self, images: int, decode_s: float, times: Times) -> None:
        """Add what happened to a request's images: it ended now, so the spans lie before."""
        end = time.time_ns()
        spans = (("compute", times.compute_s), ("queue", times.queue_s), ("decode", decode_s))
        for name, seconds in spans:
            start = end - int(seconds * 1e9)
            span = self._tracer.start_span(name, start_time=start)
            span.set_attribute("images", images)
            if name == "compute":
                span.set_attribute("batch", times.batch)
            span.end(end)
            end = start

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
