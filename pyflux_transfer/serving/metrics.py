"""Prometheus metrics of one service."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from pyflux_transfer.serving.flight import Times
from pyflux_transfer.serving.model import Description

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_PREFIX = "pyflux_transfer"
MAX_CLIENTS = 100


class Metrics:
    """The counters; also the pool's observer. Each service has a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

        def seconds(name: str, text: str, labels: tuple[str, ...] = ()) -> Histogram:
            return Histogram(
                f"{_PREFIX}_{name}_seconds", text, labels, buckets=_SECONDS, registry=registry
            )

        self.requests = Counter(
            f"{_PREFIX}_requests", "Answers.", ("route", "status"), registry=registry
        )
        self.in_flight = Gauge(
            f"{_PREFIX}_requests_in_flight", "Requests being answered.", registry=registry
        )
        self.queue_depth = Gauge(
            f"{_PREFIX}_queue_depth", "Images accepted and not answered.", registry=registry
        )
        self.workers_ready = Gauge(
            f"{_PREFIX}_workers_ready", "Workers that can answer.", registry=registry
        )
        self.request_seconds = seconds("request", "From the headers to the answer.", ("route",))
        self.decode_seconds = seconds("decode", "Decoding the images of a request.")
        self.queue_seconds = seconds("queue", "From the queue into a batch.")
        self.compute_seconds = seconds("compute", "Computing a batch.")
        self.batch_size = Histogram(
            f"{_PREFIX}_batch_size", "Images a batch.", buckets=_SIZES, registry=registry
        )
        self.restarts = Counter(
            f"{_PREFIX}_worker_restarts", "Workers replaced.", ("reason",), registry=registry
        )
        self.images = Counter(
            f"{_PREFIX}_images", "Images answered.", ("client",), registry=registry
        )
        self._clients: set[str] = set()
        self.model = Info(f"{_PREFIX}_model", "The model that is served.", registry=registry)

    def watch(self, queue_depth: Callable[[], float], workers_ready: Callable[[], float]) -> None:
        """Read these two when the metrics are asked for."""
        self.queue_depth.set_function(queue_depth)
        self.workers_ready.set_function(workers_ready)

    def batch(self, times: Times) -> None:
        """Count a computed batch."""
        if times.batch:
            self.batch_size.observe(times.batch)
            self.compute_seconds.observe(times.compute_s)

    def client(self, name: str, images: int) -> None:
        """Count answered images by the name of the key; names beyond MAX_CLIENTS are one."""
        if name not in self._clients and len(self._clients) >= MAX_CLIENTS:
            name = "others"
        self._clients.add(name)
        self.images.labels(name).inc(images)

    def restart(self, reason: str) -> None:
        """Count a worker that is replaced."""
        self.restarts.labels(reason).inc()

    def served(self, description: Description) -> None:
        """Name the model that answers from now on."""
        self.model.info(
            {
                "id": description.id,
                "architecture": description.architecture,
                "engine": description.engine,
                "classes": str(len(description.classes)),
            }
        )

    def text(self) -> bytes:
        """Return the exposition format."""
        return generate_latest(self.registry)
