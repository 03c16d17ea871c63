"""The notebooks of the documentation run from their first cell to the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebooks.running import ROOT, everything, executed, nbformat, quiet

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@quiet
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = executed(nbformat.read(path, 4), tmp_path, monkeypatch)
    assert "\\x1b" not in everything(done)
    assert (tmp_path / "digits.safetensors").is_file()
    last = [cell for cell in done.cells if cell.cell_type == "code"][-1]
    assert last.outputs[-1].data["text/plain"] == "'3'"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, 4).cells
    assert all(not cell.outputs and cell.execution_count is None
               for cell in cells if cell.cell_type == "code")  # fmt: skip
    assert path.stat().st_size < 20_000


def test_there_is_one() -> None:
    assert NOTEBOOKS
