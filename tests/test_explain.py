from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer.bundle import Bundle
from pyflux_transfer.data.dataset import Skipped
from pyflux_transfer.engines.base import Network, Plan
from pyflux_transfer.errors import InputError
from pyflux_transfer.explain import Explanation, explain
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.start import start
from pyflux_transfer.predict import predict, restore
from tests import photos
from tests.engines import fake

pytestmark = pytest.mark.usefixtures("fake_engine")

CLASSES = ("ants", "bees", "cats")
PLAIN = fake.TINY.preprocessing


@pytest.fixture
def network() -> Network:
    state = start(Plan(fake.TINY, Head(3)).units, 4)
    state["classifier.weight"] *= 30
    return restore(Bundle("tiny", CLASSES, Head(3), PLAIN, 2, state), "fake")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "photos", {"blue": 3, "green": 2})


def test_answers_are_those_of_predict_and_bad_files_keep_their_place(
    network: Network, folder: Path
) -> None:
    (folder / "blue" / "bad.png").write_bytes(b"no image")
    found = list(explain(network, CLASSES, PLAIN, folder, batch_size=2))
    wanted = list(predict(network, CLASSES, PLAIN, folder))
    assert [type(a) for a in found] == [
        Skipped if isinstance(b, Skipped) else Explanation for b in wanted
    ]
    for one, other in zip(found, wanted, strict=True):
        if isinstance(one, Explanation):
            assert one.prediction == other
            assert one.label == one.prediction.label
            assert 0 <= one.heat.min() <= one.heat.max() <= 1


def test_another_class_can_be_asked_for(network: Network, folder: Path) -> None:
    heats = [
        [one.heat for one in explain(network, CLASSES, PLAIN, folder, label=label)
         if isinstance(one, Explanation)]
        for label in CLASSES
    ]  # fmt: skip
    assert any(not np.array_equal(a, b) for a, b in zip(heats[0], heats[1], strict=True))
    with pytest.raises(InputError, match="'wasps'"):
        list(explain(network, CLASSES, PLAIN, folder, label="wasps"))


def test_an_overlay_is_written_as_the_network_saw_the_photo(
    network: Network, folder: Path, tmp_path: Path
) -> None:
    one = next(iter(explain(network, CLASSES, PLAIN, folder)))
    assert isinstance(one, Explanation)
    target = one.save(tmp_path / "new" / "overlay.png")
    np.testing.assert_array_equal(np.asarray(Image.open(target)), one.overlay)
    assert one.overlay.shape == one.pixels.shape == (PLAIN.crop, PLAIN.crop, 3)
    with pytest.raises(InputError, match=r"\.png"):
        one.save(tmp_path / "overlay.gif")
