"""Numbers as Python has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Return NumPy's scalars, and those of other libraries, as Python's: what JSON can hold.

    Mappings and sequences are gone through; everything else is returned as it is.
    """
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(plain(item) for item in value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def number(value: Any) -> Any:
    """Return NumPy's scalars as Python's, and everything else, arrays and frames too, as it is."""
    return plain(value) if getattr(value, "shape", None) == () else value
