from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from typer.testing import CliRunner

import pyflux_transfer as pft
from pyflux_transfer.cli.app import app
from tests.ecosystem.runs import run

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("default")]


def read(folder: Path) -> EventAccumulator:
    (place,) = folder.iterdir()
    return EventAccumulator(str(place)).Reload()


def curve(found: EventAccumulator, name: str) -> dict[int, float]:
    return {event.step: event.value for event in found.Scalars(name)}


@pytest.mark.parametrize("options", [{}, {"epochs": 3, "lr": 1e-2}], ids=["recipe", "steps"])
def test_its_own_reader_finds_everything(options: dict[str, float], tmp_path: Path) -> None:
    done = run(tmp_path, f"tensorboard:{tmp_path / 'tb'}", **options)
    found = read(tmp_path / "tb")
    losses = {record.epoch: record.train_loss for record in done.records}
    assert curve(found, "epoch/train_loss") == pytest.approx(losses)
    accuracy = {r.epoch: r.valid_accuracy for r in done.records if r.valid_accuracy is not None}
    assert curve(found, "epoch/valid_accuracy") == pytest.approx(accuracy)
    expected = done.estimate.accuracy if done.estimate else done.best.valid_accuracy
    assert curve(found, "final/accuracy") == pytest.approx({0: expected})
    (image,) = found.Images("confusion")
    assert Image.open(io.BytesIO(image.encoded_image_string)).size == (image.width, image.height)
    (table,) = found.Tensors("parameters")
    assert b"| architecture | tiny |" in table.tensor_proto.string_val[0]
    (said,) = found.Tensors("log.txt")
    assert said.tensor_proto.string_val[0].endswith(list(done.outcome())[-1].encode())
    start = found.summary_metadata["_hparams_/session_start_info"]
    hparams = metadata.parse_session_start_info_plugin_data(start.plugin_data.content).hparams
    assert hparams["architecture"].string_value == "tiny"
    assert hparams["images"].number_value == (18 if not options else 14) or options
    assert hparams["freeze_bn"].bool_value is True
    end = found.summary_metadata["_hparams_/session_end_info"]
    assert metadata.parse_session_end_info_plugin_data(end.plugin_data.content).status == 1
    (bundle,) = (tmp_path / "tb").rglob("*.safetensors")
    assert pft.load(bundle, engine="fake").classes == ("blue", "green", "red")


def test_each_run_has_a_folder_of_its_own_and_the_command_line_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run(tmp_path, "tensorboard", quality="head")
    words = ["train", "photos", "--arch", "tiny", "--engine", "fake", "--quality", "head"]
    done = CliRunner().invoke(app, [*words, "--log", "tensorboard:runs"])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_a_folder_that_cannot_be_made_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(pft.InputError, match="TensorBoard cannot be logged to"):
        run(tmp_path, f"tensorboard:{tmp_path / 'file'}")
