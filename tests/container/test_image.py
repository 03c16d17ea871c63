"""The image is built, serves with a read-only root as a user of its own, and drains.

`make test-container` sets PYFLUX_CONTAINER to podman or docker. PYFLUX_TARGET names the target,
`cpu` unless set; PYFLUX_IMAGE an image that is built already; PYFLUX_BUILD_OPTIONS is added to the
command that builds it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.container.programs import RESTRICTED, Program, Service, serve

PROGRAM = os.environ.get("PYFLUX_CONTAINER", "")
TARGET = os.environ.get("PYFLUX_TARGET", "cpu")
MOST_BYTES = {"cpu": 900e6, "onnx": 550e6}

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(not PROGRAM, reason="needs podman or docker: run `make test-container`"),
    pytest.mark.timeout(3600),
]

# A network with a random start: what it answers does not matter, that both answer the same does.
MAKE = """
import pyflux_transfer as pft
from PIL import Image
network = pft.load("resnet18", weights=None, device="cpu")
network.with_head(["ants", "bees"]).save("/out/model.safetensors")
Image.linear_gradient("L").convert("RGB").save("/out/photo.png")
model = pft.load("/out/model.safetensors")
print(model.network.engine, model.predict("/out/photo.png", top=2)[0].probability)
"""
WEIGH = """
import json, pathlib, sys
def size(folder):
    files = (path for path in pathlib.Path(folder).rglob("*") if not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.is_file())
packages = pathlib.Path(next(path for path in sys.path if path.startswith("/opt/venv")))
print(json.dumps({"packages": size(packages), "torch": size(packages / "torch")}))
"""


@pytest.fixture(scope="module")
def program() -> Program:
    return Program(PROGRAM)


@pytest.fixture(scope="module")
def image(program: Program) -> str:
    name = os.environ.get("PYFLUX_IMAGE") or program.build(TARGET)
    program.choose(name)
    return name


class Made:
    """What the image's own Python has made: a bundle, a photo, and its answer to it."""

    def __init__(self, program: Program, image: str, folder: Path) -> None:
        folder.chmod(0o777)  # the image's user is another one
        said = program.inside(image, "-c", MAKE, options=(f"--volume={folder}:/out",))
        self.engine, probability = said.splitlines()[-1].split()
        self.probability = float(probability)
        self.bundle, self.photo = folder / "model.safetensors", folder / "photo.png"


@pytest.fixture(scope="module")
def made(program: Program, image: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(program, image, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def service(program: Program, image: str, made: Made) -> Iterator[Service]:
    service = serve(program, image, made.bundle)
    yield service.ready()
    service.remove()


def test_it_answers_as_the_library_in_it_does(service: Service, made: Made) -> None:
    with made.photo.open("rb") as file:
        answer = httpx.post(f"{service.address}/predict", files={"file": file})
    assert answer.status_code == 200
    found = answer.json()["predictions"][0]
    assert found["top"][0]["probability"] == pytest.approx(made.probability, abs=1e-4)
    about = httpx.get(f"{service.address}/model").json()
    assert about["engine"] == made.engine == {"cpu": "torch", "gpu": "flux", "onnx": "onnx"}[TARGET]


def test_its_user_is_not_root_and_can_write_into_the_cache_alone(service: Service) -> None:
    assert service.execute("id", "-u").stdout.strip() == "10001"
    for place in ("/opt/venv/written", "/usr/bin/written", "/written"):
        assert service.execute("touch", place).returncode != 0, place
    assert service.execute("touch", "/cache/written").returncode == 0


def test_it_becomes_healthy(service: Service) -> None:
    # Docker asks every ten seconds; podman where systemd has it do so, or when it is told to.
    assert until(service.healthy)


def test_what_does_not_serve_is_not_healthy(program: Program, image: str) -> None:
    idle = program.start(*RESTRICTED, "--entrypoint=sleep", image, "60")
    try:
        assert not idle.healthy()
    finally:
        idle.remove()


def test_it_answers_what_it_has_accepted_and_ends_with_0(
    program: Program, image: str, made: Made
) -> None:
    service = serve(program, image, made.bundle).ready()
    try:
        status, ended = asked_across_sigterm(service, made.photo.read_bytes())
        assert status == 200
        assert ended == 0
    finally:
        service.remove()


def test_its_size(program: Program, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads(program.inside(image, "-c", WEIGH))
    whole = program.about(image)["Size"]
    with capsys.disabled():
        print(
            f"\n{image}: {whole / 1e6:.0f} MB; Python packages {row['packages'] / 1e6:.0f} MB, "
            f"of which PyTorch {row['torch'] / 1e6:.0f} MB"
        )
    assert whole < MOST_BYTES.get(TARGET, float("inf"))


def until(true: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(1)
    return False


def asked_across_sigterm(service: Service, photo: bytes) -> tuple[int, int]:
    """Send half a photo, SIGTERM, and the rest; return the answer's and the container's status."""
    header = (
        f"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(photo)}\r\n\r\n"
    )
    half = len(photo) // 2
    with socket.create_connection(("127.0.0.1", service.port), 60) as connection:
        connection.sendall(header.encode() + photo[:half])
        time.sleep(1)
        service.program.call("kill", "--signal=TERM", service.name)
        time.sleep(1)
        assert service.running()
        connection.sendall(photo[half:])
        status = int(connection.makefile("rb").readline().split()[1])
    return status, service.wait()
