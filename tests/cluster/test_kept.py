"""Features from parts train what features from photos would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.cluster.kept import into_cache, splits
from pyflux_transfer.cluster.merge import records
from pyflux_transfer.cluster.photos import Shard, photos
from pyflux_transfer.cluster.run import run
from pyflux_transfer.cluster.work import features_of, predictions_of
from pyflux_transfer.errors import DataError, InputError
from pyflux_transfer.training.features import Cache
from tests import photos as pictures
from tests.training.helpers import Notes

pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.fixture
def model() -> Classifier:
    return load("tiny", weights=None, engine="fake").with_head(["blue", "green", "red"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures.write(tmp_path / "photos", {"blue": 8, "green": 9, "red": 7})


def test_a_head_from_parts_is_that_of_the_photos(
    model: Classifier, folder: Path, tmp_path: Path
) -> None:
    places = [str(tmp_path / f"s{i}") for i in (1, 2)]
    for i, place in enumerate(places, start=1):
        found = photos(str(folder), labelled=True)
        run(features_of(model, "head", engine="fake"), found, place, form="jsonl",
            shard=Shard(i, 2))  # fmt: skip
    assert into_cache(places, tmp_path / "kept") == 24
    assert into_cache(places, tmp_path / "kept") == 0
    there = splits(records(places))
    watcher = Notes()
    model.fit(there, quality="head", cache=Cache(tmp_path / "kept"), watcher=watcher)
    assert any("24 of 24 from the feature cache" in line for line in watcher.lines)
    other = load("tiny", weights=None, engine="fake").with_head(["blue", "green", "red"])
    other.fit(folder, quality="head", cache=False)
    for name, tensor in other.network.state().items():
        np.testing.assert_allclose(model.network.state()[name], tensor, atol=1e-3)


def test_photos_without_labels_train_nothing(
    model: Classifier, folder: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    run(features_of(model, "head", engine="fake"), photos(str(folder)), out, form="jsonl")
    with pytest.raises(DataError, match="no label"):
        splits(records([out]))


def test_predictions_are_no_features(model: Classifier, folder: Path, tmp_path: Path) -> None:
    from pyflux_transfer import bundle as bundles

    bundle = bundles.read(model.save(tmp_path / "m.safetensors"))
    out = str(tmp_path / "out")
    run(predictions_of(bundle, engine="fake"), photos(str(folder)), out, form="jsonl")
    with pytest.raises(InputError, match="predictions"):
        into_cache([out], tmp_path / "kept")
