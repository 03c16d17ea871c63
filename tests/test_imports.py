"""Imports point one way, and each heavy dependency has one owner."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "pyflux_transfer"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.rglob("*.py")
)

# A module may import those of earlier layers and of its own.
LAYERS = (
    ("errors", "rules", "_version", "_hangup"),
    ("storage",),
    ("networks.*",),
    ("data.*", "installation.*"),
    ("engines.*",),
    ("bundle", "insight.*"),
    ("predict", "explain"),
    ("training.*", "tracking.*"),
    (
        "model",
        "loading",
        "fitting",
        "classifier",
        "comparison",
        "serving.*",
        "cluster.*",
        "export.*",
        "inspection",
        "labelling",
        "judgement",
        "reporting",
        "progress",
        "sklearn",
    ),
    ("__init__", "__main__", "demo", "cli.*"),
)

# dependency → who may import it
OWNERS = {
    "torch": ("engines.torch.*",),
    "juliacall": ("engines.flux.julia",),
    "PIL": ("data.*",),
    "safetensors": ("bundle", "engines.files"),
    "fastapi": ("serving.*",),
    "starlette": ("serving.*",),
    "uvicorn": ("serving.*",),
    "opentelemetry": ("serving.tracing",),
    "httpx": ("serving.*",),
    "pydantic": ("serving.*",),
    "typer": ("cli.*",),
    "rich": ("insight.tables", "insight.summary", "progress", "cli.*"),
    "matplotlib": ("insight.plot",),
    "tensorboard": ("tracking.tensorboard",),
    "mlflow": ("tracking.mlflow",),
    "wandb": ("tracking.wandb",),
    "jinja2": ("insight.page",),
    "threadpoolctl": ("training.rows",),
    "sklearn": ("demo", "sklearn"),
    "pyarrow": ("data.tabular.frames", "cluster.*"),
    "datasets": ("data.tabular.huggingface",),
    "onnx": ("engines.onnx.*", "export.*"),
    "onnxruntime": ("engines.onnx.*", "export.*"),
    "filelock": ("training.*", "storage"),
    "ray": ("cluster.*",),
    "optuna": ("cluster.*",),
    "fsspec": ("cluster.*",),
}


def layer(module: str) -> int:
    """Return the layer of a module: an exact name counts before a pattern."""
    for exact in (True, False):
        for number, patterns in enumerate(LAYERS):
            if any(module == p if exact else fnmatch(module, p) for p in patterns):
                return number
    raise AssertionError(f"{module} is in no layer: give it one")


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text("utf-8"))


def typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(module: str) -> Iterator[str]:
    """Yield the full names of what a module imports when it runs."""
    waiting: list[ast.AST] = [tree(module)]
    while waiting:
        node = waiting.pop()
        if typing_only(node):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are by full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting.extend(ast.iter_child_nodes(node))


def ours(name: str) -> str | None:
    """Return the module of this package that a full name means or lies in."""
    first, *parts = name.split(".")
    if first != "pyflux_transfer":
        return None
    for end in range(len(parts), 0, -1):
        for found in (".".join(parts[:end]), ".".join([*parts[:end], "__init__"])):
            if found in MODULES:
                return found
    return "__init__"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    for name in imports(module):
        target = ours(name)
        if target is not None:
            assert layer(target) <= layer(module), f"{module} must not import {target}"


@pytest.mark.parametrize("module", MODULES)
def test_each_heavy_dependency_has_one_owner(module: str) -> None:
    for name in imports(module):
        for pattern in OWNERS.get(name.split(".")[0], ("*",)):
            if fnmatch(module, pattern):
                break
        else:
            raise AssertionError(f"{module} must not import {name}")


def test_every_owner_imports_what_it_owns() -> None:
    """A row that nobody needs is a row to remove."""
    used = {name.split(".")[0] for module in MODULES for name in imports(module)}
    assert set(OWNERS) - used <= {
        *("starlette", "pydantic", "juliacall", "uvicorn", "httpx"),
        *("ray", "optuna", "pyarrow", "fsspec"),  # by `cluster.optional.needed`
    }


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        module: {t for name in imports(module) if (t := ours(name)) and t != module}
        for module in MODULES
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path, module])
        if module not in done:
            for target in graph[module]:
                visit(target, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def loaded(program: str) -> set[str]:
    code = f"{program}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_importing_the_package_starts_nothing() -> None:
    found = loaded("import pyflux_transfer")
    for heavy in (
        "torch", "juliacall", "juliapkg", "rich", "typer", "scipy", "sklearn",
        "matplotlib", "fastapi", "uvicorn", "http.server",
    ):  # fmt: skip
        assert heavy not in found, heavy


def test_the_command_line_starts_no_engine_and_no_service() -> None:
    found = loaded("import pyflux_transfer.cli.app")
    for heavy in ("torch", "juliacall", "fastapi", "uvicorn", "matplotlib", "scipy"):
        assert heavy not in found, heavy


def test_what_the_package_offers_is_there() -> None:
    import pyflux_transfer

    assert all(hasattr(pyflux_transfer, name) for name in pyflux_transfer.__all__)
