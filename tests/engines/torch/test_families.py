"""What every family can do, in small: be cut, trained, headed, kept, saved, looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import pyflux_transfer as pft
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.torch.network import build
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import resolve_cut
from tests import photos
from tests.engines.conformance import train
from tests.engines.small import SMALL

torch.set_num_threads(1)

FAMILY_STAGES = [(name, stage) for name, row in SMALL.items() for stage in row.stages]


def images(name: str) -> Array:
    """Two images a class of three; what tells the classes apart is their colour."""
    side = SMALL[name].preprocessing.crop
    noise = np.random.default_rng(5).standard_normal((6, 3, side, side), dtype=np.float32)
    return noise + 2 * np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)[:, :, None, None]


@pytest.mark.parametrize(("name", "stage"), FAMILY_STAGES)
def test_training_from_any_stage_learns(name: str, stage: str) -> None:
    network = build(Plan(SMALL[name], Head(3), seed=1))
    x, y = images(name), np.repeat(np.arange(3), 2)
    whole = network.logits(network.embed(x))
    network.cut_at(resolve_cut(network.units, stage))
    features = network.embed(x)
    np.testing.assert_array_equal(network.logits(features), whole)
    losses = train(network, features, y, 20)
    assert np.mean(losses[-3:]) < 0.95 * losses[0]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "head", [Head(3), Head(3, hidden=(8,), dropout=0.2), Head(3, keep="classifier")], ids=str
)
def test_a_head_of_any_kind_trains(name: str, head: Head) -> None:
    network = build(Plan(SMALL[name], head, seed=1))
    network.cut_at(resolve_cut(network.units, "head"))
    features = network.embed(images(name))
    assert network.logits(features).shape == (6, 3)
    losses = train(network, features, np.repeat(np.arange(3), 2), 20, rate=1e-3)
    assert np.mean(losses[-3:]) < losses[0]


def test_the_hidden_layer_of_mobilenet_v3_can_be_kept() -> None:
    whole = build(Plan(SMALL["mobilenet_v3"], seed=1))
    network = build(Plan(SMALL["mobilenet_v3"], Head(3, keep="hidden"), seed=1))
    assert [unit.name for unit in network.units][-3:] == [
        "classifier.0", "classifier.2", "classifier.3",
    ]  # fmt: skip
    x, last = images("mobilenet_v3"), len(network.units) - 1
    hidden = network.apply(x, 0, last)
    np.testing.assert_array_equal(hidden, whole.apply(x, 0, last))
    assert hidden.min() < 0  # hardswish is no relu
    assert network.logits(network.embed(x)).shape == (6, 3)


@pytest.mark.parametrize("name", SMALL)
def test_a_classifier_keeps_features_trains_saves_and_shows_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = SMALL[name]
    monkeypatch.setitem(MODELS, row.name, row)
    folder = photos.write(tmp_path / "photos", {"blue": 4, "green": 4, "red": 4})
    net = pft.load(row.name, weights=None, engine="torch", seed=1)
    model = net.with_head(["blue", "green", "red"])
    before, *_ = model.features(folder)
    kept, *_ = model.features(folder)
    np.testing.assert_array_equal(before, kept)
    model.fit(folder, cut="head", epochs=3)
    saved = model.save(tmp_path / "model.safetensors")
    photo = sorted((folder / "red").iterdir())[0]
    one, other = (m.predict(photo) for m in (model, pft.load(saved, engine="torch")))
    assert one == other
    capsys.readouterr()
    model.summary()
    shown = capsys.readouterr().out
    assert all(unit.name in shown for unit in model.units)


def test_an_image_too_small_is_refused_with_the_unit() -> None:
    network = build(Plan(SMALL["inception_v3"], Head(3), seed=1))
    with pytest.raises(pft.PyFluxTransferError, match="Unit 'Mixed_7a'"):
        network.apply(np.zeros((1, 3, 60, 60), np.float32), 0, len(network.units))
    with pytest.raises(pft.PyFluxTransferError, match="Unit 'Mixed_7a'"):
        network.trace((1, 3, 60, 60))
