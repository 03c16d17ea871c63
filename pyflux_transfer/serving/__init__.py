"""The HTTP service: `create_app(settings)` for an ASGI server, `run(settings)` for a whole one.

The web process decodes and answers; it never computes and never loads an engine. Spawned worker
processes do, and pixels reach them through shared memory.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyflux_transfer.serving.app import create_app
    from pyflux_transfer.serving.server import run
    from pyflux_transfer.serving.settings import Settings

__all__ = ["Settings", "create_app", "run"]

_HOMES = {"Settings": "settings", "create_app": "app", "run": "server"}


def __getattr__(name: str) -> Any:
    # Looked up late: a worker imports this package too, and must start without the web framework.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
