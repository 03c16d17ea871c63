from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from pyflux_transfer import predict
from pyflux_transfer.export import classifier
from pyflux_transfer.insight.belonging import Belonging, energy, learn
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.units import resolve_cut
from tests.engines.seeded import noise
from tests.engines.small import SMALL
from tests.export.bundles import bundle


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, SMALL["mobilenet_v3"].name, SMALL["mobilenet_v3"])


@pytest.mark.parametrize("logits", ["odds", "energy"])
def test_the_file_gives_the_score_that_predict_gives(tmp_path: Path, logits: str) -> None:
    made = bundle(SMALL["mobilenet_v3"], Head(3))
    network = predict.restore(made, "torch", precision="fp32")
    network.cut_at(resolve_cut(network.units, "head"))
    side = made.preprocessing.crop
    known = network.embed(noise(40, 3, side, side, seed=1))
    space = learn(known[:20])
    told = Belonging.of(space, space.score(known[20:]), network.logits(known[20:]))
    if logits == "energy":
        usual = energy(network.logits(known[20:]))
        about = (float(np.median(usual)), float(usual.std()))
        told = replace(told, logits=logits, usual=(*told.usual[:2], *about))
    path = tmp_path / "model.onnx"
    made = replace(made, belonging=told)
    path.write_bytes(classifier.model(made, "tensor").SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = 3 * noise(5, 3, side, side, seed=2)
    _, found = session.run(["probabilities", "belonging"], {"images": images})
    features = network.embed(images)
    expected = told.score(features, network.logits(features))
    assert np.ptp(expected) > 0.01, "the comparison would say nothing"
    np.testing.assert_allclose(found, expected, atol=1e-3)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["belonging"])["threshold"] == pytest.approx(told.threshold)


def test_without_belonging_there_is_no_score(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    made = bundle(SMALL["mobilenet_v3"], Head(3))
    path.write_bytes(classifier.model(made, "tensor").SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [given.name for given in session.get_outputs()] == ["probabilities"]
