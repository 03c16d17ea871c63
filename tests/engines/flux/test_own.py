"""Networks of one's own layers, and the chain in Julia for code of one's own."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pyflux_transfer as pft
from pyflux_transfer import bundle as bundles
from pyflux_transfer.errors import EngineError, InputError
from pyflux_transfer.networks.tensors import Array
from tests.engines.torch_side import noise

pytestmark = pytest.mark.flux

OUTSIDE = "julia:Metalhead.SEResNet(18)"  # the catalog has none of these


def images() -> Array:
    return noise(2, 3, 64, 64)


@pytest.fixture(scope="module")
def outside() -> pft.Classifier:
    return pft.load(OUTSIDE, engine="flux", size=64)


def test_a_constructor_outside_the_catalog_runs_and_shows_itself(outside: pft.Classifier) -> None:
    assert outside(images()).shape == (2, 1000)
    assert "trunk.1.1.1: own(3 -> 64)" in repr(outside)
    assert outside.plan.architecture.parameters == outside.outline(0)[0].parameters > 11_000_000
    assert outside.outline(2)[-1].output == (1, 1000)


def test_it_takes_a_head_trains_is_saved_and_opened(
    outside: pft.Classifier, tmp_path: Path
) -> None:
    model = outside.with_head(["dark", "light"])
    photos = tmp_path / "photos"
    for name, level in (("dark", 40), ("light", 200)):
        (photos / name).mkdir(parents=True)
        for seed in range(6):
            pixels = np.random.default_rng(seed).integers(level - 30, level + 30, (70, 70, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(photos / name / f"{seed}.png")
    model.fit(photos, quality="head")
    assert model.predict(photos / "dark", top=1)[0].label == "dark"
    cut = len(model.units) - 4
    model.network.cut_at(cut)
    before = model.network.state()
    rates = dict.fromkeys({unit.stage for unit in model.units}, 0.01)
    features = model.network.embed(images())
    model.network.step(features, np.array([0, 1]), rates)
    after = model.network.state()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    tail = {name for unit in model.units[cut:] for name in unit.tensors}
    assert changed
    assert changed <= tail
    path = model.save(tmp_path / "own.safetensors")
    again = pft.load(path, engine="flux")
    assert again.plan.units == model.plan.units
    assert np.array_equal(again(images()), model(images()))
    assert bundles.describe(path).architecture == OUTSIDE
    with pytest.raises(EngineError, match="engine='flux'"):
        pft.load(path, engine="torch")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("julia:Metalhead.NoSuch(1)", "exports no"),
        ("julia:Base.rm(\"a\")", "PYFLUX_JULIA_MODULES"),
        ("julia:SEResNet(50)", "no call of a constructor"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_refused(name: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        pft.load(name, engine="flux")


def test_weights_that_nobody_published_are_refused() -> None:
    with pytest.raises(InputError, match="give a file"):
        pft.load(OUTSIDE, engine="flux", weights="imagenet1k_v9", size=64)


def test_the_chain_is_used_from_any_thread_and_changes_are_seen() -> None:
    net = pft.load("squeezenet1_1", weights=None, engine="flux")
    before = net(images())
    found: list[object] = []

    def work() -> None:
        found.append(net.julia.run("chain -> (chain[1].weight .*= 2; length(chain))"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [len(net.units)]
    assert not np.allclose(net(images()), before)
    x = np.asfortranarray(images().transpose(3, 2, 1, 0))
    assert np.allclose(net.julia(x).T, net(images()), atol=1e-4)
    assert net.julia.run(lambda chain: len(chain.layers)) == len(net.units)
    assert "Conv(" in repr(net.julia)


def test_objects_of_julia_stay_where_they_are() -> None:
    net = pft.load("squeezenet1_1", weights=None, engine="flux")
    with pytest.raises(InputError, match="cannot leave Julia's thread"):
        net.julia.run("chain -> chain[1]")
    with pytest.raises(EngineError, match="UndefVarError"):
        net.julia.run("chain -> nothing_of_this_name(chain)")
