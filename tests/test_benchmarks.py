"""The benchmarks are run by hand: that what they take from the package is there is seen here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "benchmarks").rglob("*.py"))


def taken(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of all that is imported from the package."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyflux_transfer"):
            for name in node.names:
                yield str(node.module), name.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_benchmark_imports_is_there(file: Path) -> None:
    for module, name in taken(file):
        there = hasattr(import_module(module), name) or find_spec(f"{module}.{name}")
        assert there, f"{module} has no {name}"
