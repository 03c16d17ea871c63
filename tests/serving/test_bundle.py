"""A real bundle in a real engine: the service answers what the library answers."""

from __future__ import annotations

import base64
import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pyflux_transfer import bundle as checkpoint
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.flux import network as flux
from pyflux_transfer.networks.catalog import architecture
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.preprocessing import Fit, Preprocessing
from pyflux_transfer.networks.start import start as random_start
from tests.serving.harness import Service, picture, until

CLASSES = ("ant", "bee", "wasp")


def make_bundle(path: Path, name: str = "resnet18", seed: int = 0, fit: Fit = "crop") -> Path:
    plan = Plan(architecture(name), Head(3), seed)
    state = random_start(plan.units, seed)
    preprocessing = Preprocessing(resize=72, crop=64, fit=fit)
    told = {"accuracy": 0.5, "ece": math.nan}
    bundle = Bundle(name, CLASSES, plan.head, preprocessing, 0, state, told)
    return checkpoint.write(path, bundle)


def photos(folder: Path, count: int = 6) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for index in range(count):
        size = (80 + 7 * index, 120, 3)
        form, suffix = (("JPEG", "jpg"), ("PNG", "png"))[index % 2]
        path = folder / f"{index}.{suffix}"
        path.write_bytes(picture(rng.integers(0, 255, size, np.uint8), form))
        paths.append(path)
    return paths


MISSING = flux.readiness()
FLUX = [pytest.mark.flux, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]


@pytest.fixture(scope="module", params=["torch", pytest.param("flux", marks=FLUX)])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    bundle = make_bundle(tmp_path_factory.mktemp("bundle") / "bees.safetensors")
    with Service(bundle, "--engine", request.param, "--threads", "1", fake=False) as running:
        yield running.wait(seconds=300)


# Runs in a process of its own: an engine must not come into the tests' process.
_DIRECT = """
import json, sys
from pyflux_transfer import predict
from pyflux_transfer import bundle as checkpoint
bundle = checkpoint.read(sys.argv[1])
network = predict.restore(bundle, sys.argv[2])
found = [
    next(iter(predict.predict(network, bundle.classes, bundle.preprocessing, path, top=3)))
    for path in sys.argv[3:]
]
print(json.dumps([row.to_json() for row in found]))
"""


def test_answers_equal_the_library_s_to_the_last_digit(service: Service, tmp_path: Path) -> None:
    assert_the_library_s(service, photos(tmp_path))


def test_answers_equal_the_library_s_in_another_fit(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bees.safetensors", fit="pad")
    with Service(bundle, "--engine", "torch", "--threads", "1", fake=False) as running:
        service = running.wait(seconds=300)
        assert service.client.get("/model").json()["preprocessing"]["fit"] == "pad"
        assert_the_library_s(service, photos(tmp_path, 3))


def assert_the_library_s(service: Service, paths: list[Path]) -> None:
    engine = service.client.get("/model").json()["engine"]
    command = [sys.executable, "-c", _DIRECT, str(service.bundle), engine, *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wanted = json.loads(done.stdout)
    for path, row in zip(paths, wanted, strict=True):
        files = {"file": (str(path), path.read_bytes())}
        answer = service.client.post("/predict", files=files).json()["predictions"]
        assert json.dumps(answer) == json.dumps([row])


def test_a_batch_answers_as_the_images_alone(service: Service, tmp_path: Path) -> None:
    images = [path.read_bytes() for path in photos(tmp_path)]
    alone = [service.predict(image).json()["predictions"][0] for image in images]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda i: service.predict(i).json()["predictions"][0], images))
    if service.client.get("/model").json()["engine"].startswith("torch"):
        assert together == alone
    for one, other in zip(alone, together, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_heat_maps_are_small_pictures(service: Service, tmp_path: Path) -> None:
    images = [path.read_bytes() for path in photos(tmp_path, 2)]
    for row in service.predict(*images, explain=1).json()["predictions"]:
        start, _, data = row["heat_map"].partition(",")
        assert start == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert max(image.size) <= 160
    for row in service.predict(*images).json()["predictions"]:
        assert "heat_map" not in row


def test_the_model_page_tells_what_is_served(service: Service) -> None:
    model = service.client.get("/model").json()
    assert model["architecture"] == "resnet18"
    assert model["classes"] == list(CLASSES)
    assert model["preprocessing"]["crop"] == 64
    assert model["preprocessing"]["fit"] == "crop"
    assert model["info"]["training"] == {"accuracy": 0.5, "ece": None}
    assert model["info"]["device"]


def test_only_the_worker_holds_the_engine(service: Service) -> None:
    def engine(process: psutil.Process) -> bool:
        return any("libtorch" in m.path or "libjulia" in m.path for m in process.memory_maps())

    assert not engine(service.ps)
    assert all(engine(worker) for worker in service.workers())


def test_a_killed_engine_comes_back(service: Service, tmp_path: Path) -> None:
    image = photos(tmp_path, 1)[0].read_bytes()
    before = service.predict(image).json()["predictions"]
    began = time.monotonic()
    service.kill_worker()
    until(lambda: service.state()["state"] != "ready", 2)
    service.wait(seconds=300)
    print(f"recovered in {time.monotonic() - began:.1f} s")
    assert service.predict(image).json()["predictions"] == before


def test_a_damaged_bundle_is_named_before_anything_starts(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "bees.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    command = [sys.executable, "-m", "pyflux_transfer", "serve", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
