"""The engine protocol over the Julia package PyFluxTransfer."""

from __future__ import annotations

from pyflux_transfer import environment


def readiness() -> str | None:
    """Return None when the engine can start, else what is missing and the remedy."""
    return environment.readiness()
