"""The HTTP service: `create_app(settings)` for an ASGI server, `run(settings)` for a whole one.

The web process decodes and answers; it never computes and never loads an engine. Spawned worker
processes do, and pixels reach them through shared memory.
"""

from __future__ import annotations

from pyflux_transfer.serving.app import create_app
from pyflux_transfer.serving.server import run
from pyflux_transfer.serving.settings import Settings

__all__ = ["Settings", "create_app", "run"]
