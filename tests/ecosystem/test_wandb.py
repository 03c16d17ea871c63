from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from tests.ecosystem.runs import run

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb.teardown()  # it remembers where it was


BLOCK, HEADER = 32768, 7
FIRST, LAST = (1, 2), (1, 4)  # kinds of pieces with which a record begins and ends


def records(place: Path) -> list[Any]:
    """Return what an offline run has written: protocol buffers in a log of LevelDB's format."""
    (file,) = place.glob("*.wandb")
    data, at, parts, found = file.read_bytes(), HEADER, b"", []
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        at += HEADER
        parts = data[at : at + size] if kind in FIRST else parts + data[at : at + size]
        at += size
        if kind in LAST:
            found.append(Record.FromString(parts))
    return found


@pytest.mark.parametrize("options", [{}, {"epochs": 3, "lr": 1e-2}], ids=["recipe", "steps"])
def test_an_offline_run_holds_everything(options: dict[str, float], tmp_path: Path) -> None:
    done = run(tmp_path, "wandb:insects", **options)
    wandb.teardown()  # its process writes what it still holds
    (place,) = (tmp_path / "wandb").glob("offline-run-*")
    found = records(place)
    (begun,) = {record.run.project for record in found if record.WhichOneof("record_type") == "run"}
    assert begun == "insects"
    history: dict[int, float] = {}
    for record in found:
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json)
                   for item in record.history.item}  # fmt: skip
            if "epoch" in row:
                history[row["epoch"]] = row["epoch/train_loss"]
    assert history == pytest.approx({r.epoch: r.train_loss for r in done.records})
    kinds = {record.WhichOneof("record_type") for record in found}
    assert {"config", "summary", "artifact", "exit"} <= kinds
    (picture,) = (place / "files" / "media").rglob("confusion*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "finished" in (place / "files" / "log.txt").read_text("utf-8")
    text = str(found)
    for expected in ("architecture", "balanced_accuracy", "model.safetensors"):
        assert expected in text


def test_it_joins_the_run_that_is_active_and_leaves_it_so(tmp_path: Path) -> None:
    with wandb.init(project="mine") as active:
        run(tmp_path, "wandb", quality="head")
        assert wandb.run is active
        assert active.summary["accuracy"] > 0.3
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1
