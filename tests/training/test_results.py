from __future__ import annotations

import csv
from pathlib import Path

import pytest

import pyflux_transfer as pft
from pyflux_transfer.training import results
from pyflux_transfer.training.callbacks import Record
from tests import photos
from tests.training.helpers import interrupt_after


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / results.FILE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_line_an_epoch_and_nothing_where_nothing_was_measured(tmp_path: Path) -> None:
    records = [Record(1, 1, 1.5, None, None, 1e-3, 0.1), Record(2, 2, 0.5, 0.75, 0.5, 1e-4, 0.2)]
    results.write(tmp_path / "new", records)
    first, second = read(tmp_path / "new")
    assert next(iter(first)) == "epoch"
    assert (first["train_loss"], first["valid_loss"], first["valid_accuracy"]) == ("1.5", "", "")
    assert second == {key: str(value) for key, value in records[1].to_json().items()}


@pytest.mark.usefixtures("fake_engine")
def test_every_run_folder_has_one(tmp_path: Path) -> None:
    data = photos.write(tmp_path / "photos", {"blue": 6, "green": 6, "red": 6})
    model = pft.load("tiny", engine="fake").with_head(["blue", "green", "red"])
    run = model.fit(data, run_dir=tmp_path / "recipe", quality="head")
    (row,) = read(tmp_path / "recipe")
    assert float(row["valid_accuracy"]) == run.records[0].valid_accuracy
    model.fit(data, epochs=4, run_dir=tmp_path / "steps", watcher=interrupt_after(2))
    assert [row["epoch"] for row in read(tmp_path / "steps")] == ["1", "2"]
