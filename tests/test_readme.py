"""The code in README and docs runs: each Python, shell and JavaScript block, page by page.

Networks whose weights would be downloaded get random ones. Commands that change the machine (pip,
docker, setup …) are not run; what they name (targets, extras, commands, options) must exist.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import pyflux_transfer as pft
from pyflux_transfer import engines
from pyflux_transfer.cli.app import app
from pyflux_transfer.insight.belonging import Belonging, learn
from pyflux_transfer.networks.catalog import Architecture
from pyflux_transfer.networks.start import start
from pyflux_transfer.networks.tensors import State

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?: *<!-- needs ([\w, ]+) -->\n\n?)?( *)```(\w+)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL
)
REQUIRED = os.environ.get("PYFLUX_REQUIRE_ECOSYSTEM") == "1"
ADDRESS = "http://127.0.0.1:8000"
PHOTO_IN_NODE = """\
import { readFileSync } from "node:fs";
const photo = new Blob([readFileSync("bee.jpg")]);
"""
RUN_HERE = {
    "check",
    "next",
    "train",
    "compare",
    "evaluate",
    "report",
    "predict",
    "export",
    "summary",
    "features",
    "models",
}


def marked(page: Path) -> Any:
    """Mark a page of which a block needs libraries that `make test-ecosystem` has."""
    needs = "<!-- needs " in page.read_text("utf-8")
    marks = [pytest.mark.ecosystem] if needs else []
    return pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_the_code_of_a_page_runs(page: Path, place: Place) -> None:
    text = page.read_text("utf-8")
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(2)) + 2
        code, where = textwrap.dedent(block[4]), f"{page.relative_to(ROOT)}:{line}"
        if REQUIRED or all(map(find_spec, (block[1] or "").replace(",", " ").split())):
            place.run(block[3], code, where)
        elif block[3] == "python":
            compile(code, where, "exec")


class Place:
    """A folder with photos and a bundle, in which the blocks of one page run one after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {}
        self._service: subprocess.Popen[bytes] | None = None
        self._address = ""

    def run(self, language: str, code: str, where: str) -> None:
        """Run a block of a language that can be run; others are for reading."""
        runners: dict[str, Callable[[str, str], None]] = {
            "python": self._python,
            "sh": self._shell,
            "js": self._javascript,
        }
        if language in runners:
            if ADDRESS in code:
                code = code.replace(ADDRESS, self.address)
            runners[language](code, where)

    def _python(self, code: str, where: str) -> None:
        exec(compile(code, where, "exec"), self.names)

    def _shell(self, code: str, where: str) -> None:
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                self._command(words, f"{where}: {line}")

    def _command(self, words: list[str], where: str) -> None:
        program, *rest = words
        if program == "pyflux-transfer":
            check_options(rest, where)
            if rest[0] in RUN_HERE:
                done = CliRunner().invoke(app, rest)
                assert done.exit_code == 0, f"{where}\n{done.output}\n{done.exception!r}"
        elif program == "make":
            assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text("utf-8"), re.M), where
        elif program in ("pip", "pipx", "uv"):
            check_extras(rest, where)
        elif program == "curl":
            if shutil.which("curl"):
                done = subprocess.run(
                    [*words, "--fail", "--silent"], cwd=self.folder, capture_output=True, check=True
                )
                assert b'"predictions"' in done.stdout, where
        else:
            assert program in ("docker", "kubectl", "podman", "sudo"), (
                f"{where}: nobody checks {program}"
            )

    def _javascript(self, code: str, where: str) -> None:
        node = shutil.which("node")
        if node is None:
            return
        script = self.folder / "block.mjs"
        script.write_text(PHOTO_IN_NODE + code, "utf-8")
        done = subprocess.run(
            [node, str(script)], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{where}\n{done.stderr}"

    @property
    def address(self) -> str:
        """Where bees.safetensors is served; started when first asked for."""
        if self._service is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            self._address = f"http://127.0.0.1:{port}"
            self._service = subprocess.Popen(
                [sys.executable, "-m", "pyflux_transfer", "serve", "bees.safetensors",
                 "--port", str(port)],
                cwd=self.folder,
            )  # fmt: skip
            wait_ready(self._address, self._service)
        return self._address

    def close(self) -> None:
        """End the service, which must drain and exit 0."""
        if self._service is not None:
            self._service.send_signal(signal.SIGTERM)
            assert self._service.wait(30) == 0


def wait_ready(address: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the service did not become ready (exit {process.poll()})")


def check_options(words: list[str], where: str) -> None:
    """Compare a command and its options with those of the command line."""
    group: Any = typer.main.get_command(app)
    if words[0] == "--version":
        return
    assert words[0] in group.commands, where
    known = {flag for p in group.commands[words[0]].params for flag in p.opts}
    if words[0] == "serve":
        from pyflux_transfer.serving.settings import Settings

        known |= {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
    given = {word.split("=")[0] for word in words if word.startswith("--")}
    assert given <= known, f"{where}: unknown options {given - known}"


def check_extras(words: list[str], where: str) -> None:
    """Compare the extras of `pip install` with those of the package."""
    known = set(metadata.metadata("pyflux-transfer").get_all("Provides-Extra") or ())
    for word in words:
        if found := re.fullmatch(r"(?:\.|pyflux-transfer)\[(.+)\]", word):
            assert set(found[1].split(",")) <= known, where


@pytest.fixture
def place(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    rng = np.random.default_rng(0)
    for folder in ("photos", "hymenoptera_data/train", "hymenoptera_data/val"):
        for label, colour in (("ants", (60, 50, 40)), ("bees", (220, 180, 40))):
            for number in range(4):
                pixels = np.clip(rng.normal(colour, 25, (48, 64, 3)), 0, 255).astype(np.uint8)
                file = tmp_path / folder / label / f"{number}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(file)
    shutil.copy(tmp_path / "photos/bees/0.jpg", tmp_path / "bee.jpg")
    shutil.copytree(tmp_path / "photos/bees", tmp_path / "new-photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYFLUX_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("PYFLUX_CONFIG", str(tmp_path / "no-julia.json"))
    monkeypatch.setattr(engines, "pretrained", instead_of_a_download)
    network = pft.load("squeezenet1_1", weights=None, precision="fp32")
    model = network.with_head(["ants", "bees"])
    features = model.network.embed(rng.standard_normal((8, 3, 224, 224), dtype=np.float32))
    space, logits = learn(features), model.network.logits(features)
    model.belonging = Belonging.of(space, space.score(features), logits)
    model.save("bees.safetensors")
    place = Place(tmp_path)
    yield place
    place.close()


_pretrained = engines.pretrained


def instead_of_a_download(engine: str, row: Architecture, tag: str) -> State:
    if row.tagged(tag).package:
        return _pretrained(engine, row, tag)
    return start(row.units, 0)
