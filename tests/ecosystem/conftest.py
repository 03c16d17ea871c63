"""Tests with the libraries that people hold their data in and look at their training with.

They are large, so `make test-ecosystem` has an environment of its own for them. There a library
that is missing is an error; elsewhere the tests that need it are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REQUIRED = os.environ.get("PYFLUX_REQUIRE_ECOSYSTEM") == "1"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what a library is missing for."""
    library = collection_path.stem.removeprefix("test_")
    if REQUIRED or collection_path.suffix != ".py" or not collection_path.stem.startswith("test_"):
        return None
    needs = NEEDS.get(library, (library,))
    return not all(_there(name) for name in needs) or None


NEEDS = {"frames": ("pandas", "polars", "pyarrow")}


def _there(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


@pytest.fixture(autouse=True)
def _fake(fake_engine: None) -> None:
    """Train the NumPy engine's network."""
