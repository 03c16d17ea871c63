"""Runs notebooks as Jupyter does, in a kernel of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel: the extra dev")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[2]
# ipykernel's and pyzmq's own, of which we can mend none
quiet = pytest.mark.filterwarnings("ignore")


def executed(
    notebook: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, **hooks: Callable[..., Any]
) -> Any:
    """Execute a notebook in a folder, without a Julia; return it with its outputs."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYFLUX_CONFIG", str(folder / "none.json"))
    monkeypatch.setenv("PYFLUX_CACHE", str(folder / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    client = nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    for name, hook in hooks.items():
        setattr(client, name, lambda hook=hook, **found: hook(client, **found))
    client.execute()
    return notebook


def of(cells: Sequence[str]) -> Any:
    """Return a notebook of cells of code."""
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    return made


def texts(outputs: Sequence[Any]) -> str:
    """Return what outputs hold as text."""
    return "".join(one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs)


def everything(notebook: Any) -> str:
    """Return all that the outputs hold, pictures and HTML too."""
    return "\n".join(str(one) for cell in notebook.cells for one in cell.get("outputs", ()))
