from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import pyflux_transfer as pft
from pyflux_transfer.serving.model import Description, open_bundle
from tests import photos

OPTIONS = {"engine": "fake", "device": "cpu", "precision": "fp32"}


@pytest.mark.usefixtures("fake_engine")
def test_the_service_divides_by_the_bundle_s_temperature(tmp_path: Path) -> None:
    folder = photos.write(tmp_path / "photos", {"blue": 4, "red": 4})
    model = pft.load("tiny", engine="fake").with_head(["blue", "red"])
    model.fit(folder)
    images = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    found = {}
    for temperature in (1.0, 2.5):
        model.temperature = temperature
        path = model.save(tmp_path / f"{temperature}.safetensors")
        served = open_bundle(path, OPTIONS, lambda _: None).predict(images)
        wanted = [row.top for row in model.predict(images, top=2)]
        ours = [dict(zip(model.classes, row, strict=True)) for row in served]
        for mine, its in zip(ours, wanted, strict=True):
            assert mine == pytest.approx(dict(its), abs=1e-6)
        found[temperature] = served
    logs = {t: np.log(p[:, 0] / p[:, 1]) for t, p in found.items()}
    np.testing.assert_allclose(logs[2.5], logs[1.0] / 2.5, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("fake_engine")
def test_the_service_scores_belonging_as_predict_does(tmp_path: Path) -> None:
    folder = photos.write(tmp_path / "photos", {"blue": 6, "red": 6})
    model = pft.load("tiny", engine="fake").with_head(["blue", "red"])
    model.fit(folder)
    assert model.belonging
    served = open_bundle(model.save(tmp_path / "m.safetensors"), OPTIONS, lambda _: None)
    assert served.description.belonging == model.belonging.promise()
    assert served.description.numbers == 3
    images = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    probabilities, scores = served.answer(images)
    np.testing.assert_array_equal(probabilities, served.predict(images))
    assert scores is not None
    wanted = [row.belonging for row in model.predict(images)]
    np.testing.assert_allclose(scores, wanted, atol=1e-6)
    again = Description.from_json(json.loads(json.dumps(served.description.to_json())))
    assert again == served.description
