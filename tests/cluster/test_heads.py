"""A head from pieces is that of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.cluster.data import Cluster
from pyflux_transfer.cluster.heads import Apart, Piece, fit_head
from pyflux_transfer.cluster.parts import parts_in
from pyflux_transfer.cluster.photos import photos
from pyflux_transfer.cluster.run import run
from pyflux_transfer.cluster.work import features_of
from pyflux_transfer.training.callbacks import Silent
from pyflux_transfer.training.design import reduce
from pyflux_transfer.training.features import Features
from pyflux_transfer.training.logistic import Problem, solve
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.validation import cross_validate
from tests import photos as pictures


class Remote:
    """An actor in this process: what Ray does, without Ray."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        class Call:
            remote = staticmethod(method)

        return Call


class Ray:
    get = staticmethod(lambda found: found)
    put = staticmethod(lambda value: value)


def apart(rows: np.ndarray[Any, Any], cuts: list[int]) -> Features:
    actors = []
    for part in np.split(rows, cuts):
        piece = Piece("", [])
        piece._all = part
        piece.choose(np.arange(len(part)))
        actors.append(Remote(piece))
    bounds = np.array([0, *cuts, len(rows)])
    there = Apart(Ray, actors, bounds)
    return Features(rows.shape[1:], len(rows), there.take, there)


@pytest.mark.parametrize("count", [400, 40])
def test_sums_over_pieces_solve_what_the_whole_does(count: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, count)
    centres = rng.normal(0, 1, (4, 60))
    rows = (centres[labels] + rng.normal(0, 2, (count, 60))).astype(np.float32)
    folds = np.arange(count) % 3
    heads, judged = [], []
    for features in (rows, apart(rows, [7, count // 2])):
        design = reduce(features)
        validation = cross_validate(design, labels, 4, folds)
        judged.append(validation)
        problem = Problem.of(design, labels, 4)
        heads.append(solve(problem, validation.best.decay, validation.start))
    np.testing.assert_allclose(heads[0].weight, heads[1].weight, atol=1e-3)
    np.testing.assert_allclose(heads[0].bias, heads[1].bias, atol=1e-3)
    assert judged[0].best.decay == judged[1].best.decay
    np.testing.assert_allclose(judged[0].logits, judged[1].logits, atol=1e-2)
    assert heads[0].loss == pytest.approx(heads[1].loss, abs=1e-6)


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("memory_bytes", [0, 2**28])
def test_a_head_on_two_workers_is_that_of_one_process(tmp_path: Path, memory_bytes: int) -> None:
    folder = pictures.write(tmp_path / "p", {"blue": 30, "green": 24, "red": 27}, side=40)
    (folder / "red" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    net = load("efficientnet_lite0", weights=None, engine="torch", precision="fp32", size=64)
    place = tmp_path / "features"
    job = features_of(net, "head", engine="torch", precision="fp32")
    run(job, photos(str(folder), labelled=True), str(place), size=9)
    assert len(parts_in(str(place))) == 10
    model, done = fit_head(
        net,
        str(place),
        cluster=Cluster(workers=2),
        options=Options(),
        watcher=Silent(),
        memory_bytes=memory_bytes,
    )
    (folder / "red" / "bad.png").unlink()
    other: Classifier = net.with_head(["blue", "green", "red"])
    alone = other.fit(folder, quality="head")
    assert done.skipped
    assert done.estimate is not None
    assert alone.estimate is not None
    assert done.estimate.accuracy == alone.estimate.accuracy
    assert done.estimate.decay == alone.estimate.decay
    for name, tensor in other.network.state().items():
        np.testing.assert_allclose(model.network.state()[name], tensor, atol=1e-3)
    assert model.temperature == pytest.approx(other.temperature, abs=1e-3)
