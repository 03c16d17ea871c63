from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer import predict
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.export import classifier
from pyflux_transfer.export.running import Exported
from pyflux_transfer.networks.catalog import MODELS, Architecture
from pyflux_transfer.networks.head import Head
from tests.engines.seeded import noise
from tests.engines.small import SMALL, TRANSFORMERS, narrowed
from tests.export.bundles import bundle

# The families of old kinds, in small: images of a size that every unit has something to do on.
OLD = {
    name: (by, side)
    for name, by, side in (
        ("resnet18", 8, 64), ("resnet50", 8, 64), ("vgg11", 8, 224), ("squeezenet1_1", 1, 67),
        ("mobilenet_v2", 1, 64), ("efficientnet_lite0", 1, 67), ("alexnet", 8, 97),
    )
}  # fmt: skip


def _old(name: str) -> Architecture:
    by, side = OLD[name]
    row = MODELS[name]
    image = replace(
        row.weights[0], preprocessing=replace(row.preprocessing, resize=side, crop=side)
    )
    return replace(
        row, name=f"small_{name}", make=lambda: narrowed(row.units, by), weights=(image,)
    )


ROWS = {**SMALL, **TRANSFORMERS}


def agrees(row: Architecture, head: Head | None, folder: Path) -> None:
    made = bundle(row, head)
    path = folder / "model.onnx"
    path.write_bytes(classifier.model(made, "tensor").SerializeToString())
    side = made.preprocessing.crop
    for count in (1, 3):
        images = noise(count, 3, side, side, seed=count)
        expected = ours(made, images)
        found = Exported(path)(images)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-4)


def ours(made: Bundle, images: np.ndarray) -> np.ndarray:
    network = predict.restore(made, "torch", precision="fp32")
    return predict.probabilities(network, images, made.temperature)


@pytest.mark.parametrize("name", ROWS)
def test_a_family_answers_as_the_engine_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, ROWS[name].name, ROWS[name])
    agrees(ROWS[name], Head(5), tmp_path)


@pytest.mark.parametrize("name", OLD)
def test_the_kinds_of_units_answer_as_the_engine_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = _old(name)
    monkeypatch.setitem(MODELS, row.name, row)
    agrees(row, None, tmp_path)
