from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyflux_transfer.data.dataset import Dataset, scan
from pyflux_transfer.networks.head import Head
from pyflux_transfer.training import verdict
from pyflux_transfer.training.callbacks import Timer
from pyflux_transfer.training.examples import Maker
from pyflux_transfer.training.head import linear, solve_head
from pyflux_transfer.training.options import Options
from tests import photos
from tests.engines import fake
from tests.training.helpers import NOWHERE, Notes, network

pytestmark = pytest.mark.usefixtures("fake_engine")


def maker() -> Maker:
    return Maker(network(), fake.TINY.preprocessing, Options(), NOWHERE, Timer(), Notes())


def photos_of(folder: Path) -> Dataset:
    return scan(photos.write(folder / "photos", {"blue": 12, "green": 9, "red": 7})).train


def test_the_folds_heads_are_what_answered_for_their_photos(tmp_path: Path) -> None:
    made, data = maker(), photos_of(tmp_path)
    start = solve_head(made, data).start
    assert start
    features = made.plain(data)
    x = features.take(range(features.count))
    for fold, (weight, bias) in enumerate(start.heads):
        mine = start.folds == fold
        logits = x[mine] @ weight.T + bias
        wanted = start.logits[mine]
        np.testing.assert_allclose(
            logits - logits.mean(axis=1, keepdims=True),
            wanted - wanted.mean(axis=1, keepdims=True),
            atol=1e-3,
        )
    assert start.learnt.all()
    assert (start.truth.bunches[:, None] == start.truth.bunches).sum() == len(data.samples)


def test_an_error_leaves_the_head_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    made = maker()
    before = made.network.state()
    monkeypatch.setattr(verdict, "calibrate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        solve_head(made, photos_of(tmp_path))
    for name, value in made.network.state().items():
        np.testing.assert_array_equal(value, before[name])


def test_only_a_head_of_one_dense_layer_is_linear() -> None:
    assert linear(network())
    assert not linear(network(head=Head(3, hidden=(4,))))
    assert not linear(network(head=Head(3, dropout=0.5)))
    assert not linear(network(head=Head(3, keep="classifier")))
