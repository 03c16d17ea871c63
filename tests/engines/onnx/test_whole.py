"""What people do with the engine: answers, heat maps and files are as with the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pyflux_transfer as pft
from pyflux_transfer import bundle as bundles
from pyflux_transfer import predict
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.errors import EngineError
from pyflux_transfer.insight.belonging import Belonging, learn
from tests import photos

RUN = """
import sys
from pyflux_transfer.cli.app import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(*(name for name in {heavy} if name in sys.modules), file=sys.stderr)
"""
# Not for a photo's answer: engines that are not asked, and what trains.
HEAVY = ("torch", "juliacall", "pyflux_transfer.training.train", "pyflux_transfer.classifier")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos.write(tmp_path_factory.mktemp("photos"), {"blue": 3, "red": 3}, side=48)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that knows belonging; its trunk is random."""
    net = pft.load("squeezenet1_1", weights=None, engine="torch", precision="fp32", size=64)
    model = net.with_head(["blue", "red"])
    images = np.random.default_rng(0).standard_normal((8, 3, 64, 64), dtype=np.float32)
    features = model.network.embed(images)
    space, logits = learn(features), model.network.logits(features)
    model.belonging = Belonging.of(space, space.score(features), logits)
    model.temperature = 0.7
    return model.save(tmp_path_factory.mktemp("bundle") / "bundle.safetensors")


def test_answers_are_those_of_the_other_engine(bundle: Path, folder: Path) -> None:
    ours, theirs = (pft.load(bundle, engine=name, precision="fp32") for name in ("onnx", "torch"))
    for one, other in zip(ours.predict(folder), theirs.predict(folder), strict=True):
        assert (one.name, one.label, one.sure) == (other.name, other.label, other.sure)
        assert one.probability == pytest.approx(other.probability, abs=1e-4)
        assert one.belonging == pytest.approx(other.belonging, abs=1e-4)
    assert ours.evaluate(folder).log_loss == pytest.approx(theirs.evaluate(folder).log_loss, 1e-4)


def test_a_photo_gets_the_same_digits_alone_and_among_others(bundle: Path, folder: Path) -> None:
    model = pft.load(bundle, engine="onnx")
    together = model.predict(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert [model.predict(file)[0] for file in files] == together


def test_a_class_activation_map_is_that_of_the_other_engine(folder: Path) -> None:
    net = pft.load("resnet18", weights=None, engine="torch", precision="fp32", size=64)
    model = net.with_head(["blue", "red"])
    other = pft.load("resnet18", weights=None, engine="onnx", size=64).with_head(["blue", "red"])
    photo = next((folder / "red").iterdir())
    (one,), (two,) = model.explain(photo), other.explain(photo)
    assert two.method == "class activation map"
    np.testing.assert_allclose(one.heat, two.heat, atol=1e-4)


def test_training_is_refused_before_any_photo_is_read(bundle: Path) -> None:
    model = pft.load(bundle, engine="onnx")
    for train in (model.fit, model.fine_tune):
        with pytest.raises(EngineError, match="engine='torch' or engine='flux'"):
            train("no such folder")


def test_what_it_saves_the_other_engine_loads(bundle: Path, tmp_path: Path) -> None:
    saved = pft.load(bundle, engine="onnx").save(tmp_path / "again.safetensors")
    assert bundles.read(saved).info["versions"]["onnxruntime"]
    one, other = bundles.read(bundle), bundles.read(saved)
    for name, value in one.state.items():
        np.testing.assert_array_equal(value, other.state[name])
    pft.load(saved, engine="torch")


def test_heat_maps_decide_only_where_they_need_gradients(bundle: Path) -> None:
    read = bundles.read(bundle)

    def engine(found: Bundle, maps: bool) -> str:
        return predict.engine_for(found, device="cpu", precision="fp32", photos=1, maps=maps)[0]

    made = pft.load("vgg11", weights=None, engine="onnx", size=64).with_head(
        ["a", "b"], hidden=(4,)
    )
    hidden = replace(read, architecture="vgg11", head=made.plan.head, state={})
    resnet = replace(read, architecture="resnet18", state={})
    assert engine(resnet, maps=False) == engine(resnet, maps=True) == "onnx"
    assert engine(hidden, maps=False) == "onnx"
    assert engine(hidden, maps=True) != "onnx"


def test_a_photo_is_answered_without_pytorch(bundle: Path, folder: Path, tmp_path: Path) -> None:
    photo = next((folder / "red").iterdir())
    machine = {"PYFLUX_CONFIG": str(tmp_path / "none.json"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(heavy=HEAVY), "predict", bundle, photo, "--json"],
        capture_output=True, text=True, check=True,
        env={**os.environ, **machine},
    )  # fmt: skip
    assert json.loads(done.stdout)["label"] in ("blue", "red")
    assert done.stderr.split() == []
