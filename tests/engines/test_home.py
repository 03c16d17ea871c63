"""A plain Julia, without Python, opens a bundle, classifies, trains and saves; torch opens it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer import bundle as bundles
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.data.preprocess import prepare
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.installation import environment
from pyflux_transfer.networks.catalog import architecture
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.predict import probabilities, restore
from tests.engines.torch_side import ask, random_state

pytestmark = pytest.mark.flux

HEAD = Head(3, dropout=0.1)


def julia(*arguments: object) -> None:
    """Run `home.jl` in a Julia process that has never heard of Python."""
    found = environment.registered()
    assert found is not None
    program = Path(__file__).with_name("home.jl")
    command = [found.exe, "--startup-file=no", f"--project={found.project}", str(program)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        env={**os.environ, **environment.variables(found)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.timeout(900)
def test_a_julia_session_goes_on_where_python_stopped(tmp_path: Path) -> None:
    how = Preprocessing(72, 64, interpolation="bicubic")
    one = Bundle(
        "resnet18",
        ("ants", "bees", "été"),
        HEAD,
        how,
        12,
        random_state(Plan(architecture("resnet18"), HEAD).units),
        {"engine": "torch", "training": {"best": {"valid_accuracy": 0.1 + 0.2}, "decay": None}},
        0.4,
    )
    given, saved = tmp_path / "given.safetensors", tmp_path / "saved.safetensors"
    bundles.write(given, one)
    photos = np.random.default_rng(3).integers(0, 256, (6, 71, 103, 3), dtype=np.uint8)
    photos.tofile(tmp_path / "photos.raw")
    julia(given, tmp_path / "photos.raw", "6,71,103", saved, tmp_path / "answers.safetensors")

    answers, _ = bundles.read_tensors(tmp_path / "answers.safetensors")
    images = np.stack([prepare(photo, how) for photo in photos])
    np.testing.assert_array_equal(answers["images"], images)
    torch = ask(
        "opened", tmp_path / "torch.npz", bundles=[str(given), str(saved)],
        photos=str(tmp_path / "photos.raw"), shape=list(photos.shape),
    )  # fmt: skip
    expected = torch[str(given)]
    assert 0.4 < expected.max(axis=1).mean() < 0.99, "the comparison would say nothing"
    np.testing.assert_allclose(answers["before"], expected, atol=1e-3)
    np.testing.assert_allclose(answers["after"], torch[str(saved)], atol=1e-3)
    assert np.abs(answers["after"] - answers["before"]).max() > 0.05, "it has learnt nothing"

    back = bundles.read(saved)
    network = restore(back, "flux")
    np.testing.assert_allclose(
        probabilities(network, images, back.temperature), answers["after"], atol=1e-3
    )
    assert replace(back, state={}, info={}) == replace(one, state={}, info={})
    assert back.info == {**one.info, "note": "trained in Julia"}
    frozen = [name for name in back.state if not name.startswith(("layer4.", "fc."))]
    for name in frozen:
        np.testing.assert_array_equal(back.state[name], one.state[name])
    assert json.dumps(back.to_json()["plan"]) == json.dumps(one.to_json()["plan"])
