"""Jobs on two of Ray's workers: what they write, and what remains of it when one is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pyflux_transfer import bundle as bundles
from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.cluster.data import Cluster, OnRay
from pyflux_transfer.cluster.parts import parts_of
from pyflux_transfer.cluster.photos import Photo, photos
from pyflux_transfer.cluster.records import Record
from pyflux_transfer.cluster.run import run
from pyflux_transfer.cluster.search import search
from pyflux_transfer.cluster.work import Job, predictions_of
from pyflux_transfer.training.features import Cache
from tests import photos as pictures

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("ray"),
]
TWO = Cluster("local", workers=2)


@pytest.fixture(scope="module")
def model() -> Classifier:
    net = load("efficientnet_lite0", weights=None, engine="torch", precision="fp32", size=64)
    return net.with_head(["blue", "green", "red"], seed=2)


@pytest.fixture
def job(model: Classifier, tmp_path: Path) -> Job:
    bundle = bundles.read(model.save(tmp_path / "m.safetensors"))
    return predictions_of(bundle, engine="torch", precision="fp32")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    place = tmp_path_factory.mktemp("many")
    pictures.write(place, {"blue": 400, "green": 400, "red": 400}, side=40)
    (place / "red" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    return photos(str(place))


def raw(out: Path) -> list[Record]:
    """Return every record that is written, doubled ones too."""
    return [record for part in parts_of(str(out)) for record in part]


def test_two_workers_write_what_one_process_does(
    job: Job, many: list[Photo], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    a = run(job, many[:300], str(one), size=50)
    b = run(job, many[:300], str(two), size=50, runner=OnRay(TWO))
    assert a == b
    there = {record.path: record for record in raw(two)}
    assert len(raw(two)) == len(there) == 300
    for record in raw(one):
        other = there[record.path]
        assert (record.label, record.digest, record.reason) == (
            other.label, other.digest, other.reason,
        )  # fmt: skip
        if record.values is not None:
            assert other.values is not None
            np.testing.assert_allclose(record.values, other.values, atol=2e-6)


def kill_one(out: Path, after: int) -> threading.Thread:
    """Kill a worker with SIGKILL as soon as so many parts are written."""

    def wait() -> None:
        while len(list(out.glob("part-*"))) < after:
            time.sleep(0.01)
        for process in psutil.process_iter(["cmdline"]):
            if "ray::MapWorker(MapBatches(Shares)).submit" in " ".join(process.info["cmdline"]):
                os.kill(process.pid, signal.SIGKILL)
                out.with_suffix(".killed").touch()
                return

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_worker_that_is_killed_loses_and_doubles_nothing(
    job: Job, many: list[Photo], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killer = kill_one(out, 4)
    counts = run(job, many, str(out), size=40, runner=OnRay(TWO))
    killer.join(5)
    assert out.with_suffix(".killed").exists()
    assert counts.seen == len(many) == 1200
    paths = [record.path for record in raw(out)]
    assert len(paths) == len(set(paths)) == 1200
    assert run(job, many, str(out), size=40, runner=OnRay(TWO)).written == 0


def test_a_search_on_two_workers(tmp_path: Path) -> None:
    folder = pictures.write(tmp_path / "p", {"blue": 12, "red": 12}, side=40)
    found = search(
        folder, 4, networks=["efficientnet_lite0=none"], run_dir=tmp_path / "s", epochs=1,
        engine="torch", precision="fp32", cache=Cache(tmp_path / "kept"), cluster=TWO,
    )  # fmt: skip
    assert len(found.rows) == 4
    best = found.rows[0]
    assert best.loss == min(row.loss for row in found.rows if row.loss is not None)
    model: Any = load(found.bundle, engine="torch", precision="fp32")
    assert model.classes == ("blue", "red")
