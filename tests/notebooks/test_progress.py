"""What a notebook's cells hold after training: one area that changed, lines, no escape codes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests import photos
from tests.notebooks.running import everything, executed, of, quiet, texts

pytestmark = quiet

BEGIN = """
import pyflux_transfer as pft
from pyflux_transfer.engines import ENGINES
from tests.engines import fake

ENGINES["fake"] = "tests.engines.fake"
pft.MODELS["tiny"] = fake.TINY
model = pft.load("tiny", engine="fake", weights=None).with_head(["blue", "red"])
"""
STEPS = 'run = model.fit("photos", epochs={}, watcher=pft.Progress())'


def test_training_is_one_area_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos.write(tmp_path / "photos", {"blue": 20, "red": 20})
    done = executed(of([BEGIN, STEPS.format(4)]), tmp_path, monkeypatch)
    outputs = done.cells[1].outputs
    areas = [one for one in outputs if one.output_type == "display_data"]
    assert len(areas) == 1
    assert areas[0].data == {"text/plain": "", "text/html": ""}  # it shows nothing any more
    said = texts(outputs).splitlines()
    assert [line.split()[1] for line in said if line.startswith("epoch ")] == [
        "1/4", "2/4", "3/4", "4/4",
    ]  # fmt: skip
    assert sum(line.startswith("training features: 32 images in ") for line in said) == 1
    assert len(outputs) < 8
    assert "\\x1b" not in everything(done)


def test_a_bar_shows_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = """
import pyflux_transfer as pft
work = pft.Progress().bar("<photos>", 3)
advance = work.__enter__()
advance(1)
advance(1)
"""
    done = executed(of([bar]), tmp_path, monkeypatch)
    (area,) = done.cells[0].outputs
    assert area.data["text/plain"].startswith("<photos>: 1/3  ")  # the next is too soon
    assert area.data["text/html"].startswith("<progress value='1' max='3'></progress> &lt;photos")


def test_a_table_is_one_output_without_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = executed(of([BEGIN, "model.summary(1)"]), tmp_path, monkeypatch)
    (table,) = done.cells[1].outputs
    assert "stage1" in table.data["text/plain"]
    assert "\x1b" not in table.data["text/plain"]
    assert table.data["text/html"].startswith("<pre")


def test_interrupting_the_kernel_keeps_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos.write(tmp_path / "photos", {"blue": 20, "red": 20})
    notebook = of([BEGIN, STEPS.format(100_000), "print(run.stopped, len(run.records))", "run"])
    tasks = []

    async def interrupt(client: Any, cell: Any) -> None:
        while "epoch      3/" not in texts(cell.outputs):
            await asyncio.sleep(0.02)
        await client.km.interrupt_kernel()

    def on_cell_execute(client: Any, cell: Any, cell_index: int) -> None:
        if cell_index == 1:
            tasks.append(asyncio.get_running_loop().create_task(interrupt(client, cell)))

    done = executed(notebook, tmp_path, monkeypatch, on_cell_execute=on_cell_execute)
    stopped, count = texts(done.cells[2].outputs).split()
    assert stopped == "interrupted"
    assert 3 <= int(count) < 100_000
    assert "interrupted; best epoch" in done.cells[3].outputs[0].data["text/html"]
    assert "Traceback" not in everything(done)
