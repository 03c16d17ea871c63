from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from pyflux_transfer import bundle as bundles
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.classifier import load
from pyflux_transfer.engines.onnx import graph, layers
from pyflux_transfer.errors import ExportError, ImageError, InputError, StorageError
from pyflux_transfer.export import classifier, running, writing
from pyflux_transfer.export.pictures import picture
from pyflux_transfer.export.running import Exported
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head
from tests.export.bundles import bundle

CLASSES = ("ants", "bees", "none of them")


@pytest.fixture(scope="module")
def made() -> Bundle:
    return bundle(MODELS["squeezenet1_1"], Head(3), CLASSES, resize=72, crop=64)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Labelled photos, the labels not those of the answers."""
    folder = tmp_path / "photos"
    for number in range(12):
        place = folder / CLASSES[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = picture(50 + 7 * number, 120 - 5 * number, number)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def test_the_answers_are_compared_and_the_file_is_whole(made: Bundle, tmp_path: Path) -> None:
    found = writing.export(made, tmp_path / "bees.onnx", engine="torch")
    assert found.compared is not None
    assert found.compared.photos == 12
    assert found.compared.from_files is None
    assert 0 < found.compared.difference < 2e-3
    assert found.bytes == found.path.stat().st_size
    onnx.checker.check_model(str(found.path), full_check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["bees.onnx"]


def test_it_answers_as_predict_does_on_photos(made: Bundle, photos: Path, tmp_path: Path) -> None:
    path = bundles.write(tmp_path / "bees.safetensors", made)
    model = load(path, engine="torch", precision="fp32")
    found = model.export(tmp_path / "bees.onnx", compare=photos)
    assert found.compared is not None
    assert (found.compared.photos, found.compared.from_files) == (12, found.compared.difference)
    exported = Exported(found.path)
    for file in sorted(photos.rglob("*.png")):
        (answer,) = model.predict(file)
        found_row = exported(np.asarray(Image.open(file)))[0]
        assert CLASSES[int(found_row.argmax())] == answer.label
        assert found_row.max() == pytest.approx(answer.probability, abs=2e-3)


def test_a_file_that_answers_otherwise_is_not_left(
    made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bees.onnx"
    target.write_bytes(b"what was there")
    monkeypatch.setitem(layers._ACTIVATIONS, "relu", lambda g, x: g.node("Sigmoid", x))
    with pytest.raises(ExportError, match=r"differs by .* more than 0.02"):
        writing.export(made, target, engine="torch")
    assert target.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [target]


def test_another_answer_is_refused_however_near() -> None:
    made = bundle(MODELS["squeezenet1_1"], Head(3), CLASSES)
    ours, theirs = np.float32([0.503, 0.497, 0]), np.float32([0.49, 0.51, 0])
    with pytest.raises(ExportError, match=r"calls 'a.jpg' 'bees', the bundle 'ants'"):
        running._check("a.jpg", made, ours, theirs, 0.013)
    running._check("a.jpg", made, np.float32([0.501, 0.499, 0]), theirs, 0.011)  # a tie
    with pytest.raises(ExportError, match="nan"):
        running._check("a.jpg", made, ours, ours * np.nan, float("nan"))


def test_what_cannot_be_is_refused_before_the_work(
    made: Bundle, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        writing.export(made, tmp_path / "bees.pt")
    with pytest.raises(InputError, match="Unknown input 'video'"):
        writing.export(made, tmp_path / "a.onnx", input="video", check=False)
    with pytest.raises(InputError, match="No such file"):
        writing.export(made, tmp_path / "a.onnx", compare=tmp_path / "nowhere")
    with pytest.raises(InputError, match="1 are too few"):
        writing.export(made, tmp_path / "a.onnx", int8=photos / "ants" / "0.png")
    with pytest.raises(InputError, match="from 0 to 1, got 5"):
        writing.export(made, tmp_path / "a.onnx", int8=photos, max_loss=5)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        writing.export(made, tmp_path / "file" / "a.onnx")
    (photos / "ants" / "bad.png").write_bytes(b"no photo")
    with pytest.raises(ImageError, match=r"bad\.png"):
        writing.export(made, tmp_path / "a.onnx", compare=photos, engine="torch")
    monkeypatch.setattr(graph, "LARGEST_BYTES", 1000)
    with pytest.raises(InputError, match="holds 2 GiB"):
        writing.export(made, tmp_path / "a.onnx", check=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'pyflux-transfer\[export\]'"):
        writing.export(made, tmp_path / "a.onnx")
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize("given", ["image", "tensor"])
def test_eight_bits_are_judged_on_photos(
    given: classifier.Input, made: Bundle, photos: Path, tmp_path: Path
) -> None:
    exact = writing.export(made, tmp_path / "exact.onnx", input=given, check=False)
    small = writing.export(
        made, tmp_path / "small.onnx", input=given, int8=photos, max_loss=1, check=False
    )
    assert small.bytes < 0.4 * exact.bytes
    assert small.quantised is not None
    assert (small.quantised.calibrated, small.quantised.judged) == (6, 6)
    assert small.quantised.before is not None
    loss = small.quantised.before - (small.quantised.after or 0)
    assert small.quantised.loss == loss
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == ["exact.onnx", "small.onnx"]


def test_eight_bits_that_lose_too_much_are_not_left(
    made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of unlabelled photos the answers must stay: here they turn round."""
    pictures = [picture(60, 60, seed) for seed in range(10)]
    turned = Bundle(**{**vars(made), "state": {n: -v for n, v in made.state.items()}})

    def otherwise(model: Path, target: Path, *_: object) -> None:
        del model
        target.write_bytes(classifier.model(turned).SerializeToString())

    monkeypatch.setattr("pyflux_transfer.export.int8._quantise", otherwise)
    with pytest.raises(ExportError, match=r"% of the answers change on 5 photos, more than 0.0%"):
        writing.export(made, tmp_path / "a.onnx", int8=pictures, max_loss=0, check=False)
    assert not list(tmp_path.iterdir())


def test_neither_pytorch_nor_julia_is_needed(made: Bundle, tmp_path: Path) -> None:
    bundles.write(tmp_path / "bees.safetensors", made)
    code = (
        "import sys; from pyflux_transfer.cli.app import main\n"
        "try: main(['export', 'bees.safetensors', '--out', 'bees.onnx', '--no-check'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print({'torch', 'juliacall'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
    assert (tmp_path / "bees.onnx").stat().st_size > 2_000_000


def test_the_command_tells_how_near_it_is(
    made: Bundle, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyflux_transfer.cli.app import main

    path = bundles.write(tmp_path / "bees.safetensors", replace(made, temperature=2.0))
    words = ["export", str(path), "--out", str(tmp_path / "bees.onnx"), "--engine", "torch"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--compare", str(photos), "--int8", str(photos), "--max-loss", "1"])
    told = capsys.readouterr()
    assert not end.value.code, told.err
    assert "12 photos: the largest difference of a probability is" in told.out
    assert "beside `predict` on the files" in told.out
    assert "8 bits, calibrated on 6 photos, on 6 others: accuracy" in told.out
    assert f"written {tmp_path / 'bees.onnx'}" in told.out
    with pytest.raises(SystemExit) as end:
        main([*words, "--compare", str(photos), "--no-check"])
    assert end.value.code == 2
    assert "Leave one of --compare and --no-check out" in capsys.readouterr().err
