"""Libraries that only this room needs: imported when they are, refused with their extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pyflux_transfer.errors import InputError

EXTRAS = {
    "fsspec": "shards",
    "optuna": "search",
    "pyarrow": "shards",
    "pyarrow.parquet": "shards",
    "ray": "ray",
    "ray.data": "ray",
    "ray.serve": "ray",
}


def needed(module: str, purpose: str, otherwise: str = "") -> Any:
    """Return a library's module. Raises InputError with the extra that brings it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{purpose} needs more packages ({error.name}). "
            f"Run: pip install 'pyflux-transfer[{EXTRAS[module]}]'{otherwise}"
        ) from None
