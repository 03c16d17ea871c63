"""A service in a process of its own, on a loopback socket."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from tests.serving import loaders

_PROGRAM = "import typer; from pyflux_transfer.cli.serve import register; app = typer.Typer()\n"
_PROGRAM += "app.callback()(lambda: None); register(app); app()"


def colour(rgb: tuple[int, int, int], size: int = 12, form: str = "PNG") -> bytes:
    return picture(np.full((size, size, 3), rgb, np.uint8), form)


def picture(pixels: NDArray[np.uint8], form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def many_colours(count: int) -> list[tuple[int, int, int]]:
    """Return distinct colours, none of which breaks the fake."""
    rng = np.random.default_rng(0)
    rows = rng.choice(200**3, count, replace=False)
    return [(40 + r % 200, 40 + r // 200 % 200, 40 + r // 40000) for r in rows.tolist()]


def truth(rgb: tuple[int, int, int]) -> float:
    """Return the probability that the fake gives the best label."""
    image = np.float32(np.array(rgb, np.float32) / np.float32(255))[None, :, None, None]
    row = loaders.expected(np.broadcast_to(image, (1, 3, 8, 8)).astype(np.float32))
    return round(float(row.max()), 6)


def base64_json(*images: bytes) -> dict[str, list[str]]:
    return {"images": [base64.b64encode(image).decode() for image in images]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], seconds: float = 10) -> float:
    """Wait for a condition; return the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


class Service:
    """`pyflux-transfer serve` as a user starts it."""

    def __init__(self, bundle: Path, *options: str, fake: bool = True, **environment: str) -> None:
        self.bundle = bundle
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = bundle.parent / f"service-{self.port}.log"
        self.client = httpx.Client(base_url=self.url, timeout=20)
        command = [sys.executable, "-c", _PROGRAM, "serve", str(bundle), "--port", str(self.port)]
        command += ["--loader", loaders.NAME] if fake else []
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *options], stderr=log, stdout=log, env={**os.environ, **environment}
            )
        self.ps = psutil.Process(self.process.pid)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()
        # Workers end by themselves when their parent is gone; tests do not wait for it.

    # --- requests -------------------------------------------------------------------------------

    def predict(self, *images: bytes, **query: Any) -> httpx.Response:
        files = [("file", (f"{i}.png", image)) for i, image in enumerate(images)]
        return self.client.post("/predict", files=files, params=query)

    def state(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get("/readyz").json()
        return answer

    def wait(self, state: str = "ready", seconds: float = 30) -> Service:
        """Wait until /readyz tells this state."""
        ends = time.monotonic() + seconds
        while True:
            try:
                if self.state()["state"] == state:
                    return self
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < ends, self.log.read_text()
            time.sleep(0.02)

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        lines = self.client.get("/metrics").text.splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        assert found, name
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    # --- faults ---------------------------------------------------------------------------------

    def workers(self) -> list[psutil.Process]:
        """Return the processes that compute."""
        return self._children("serving.worker")

    def decoders(self) -> list[psutil.Process]:
        """Return the processes that decode."""
        return self._children("data.decoder")

    def _children(self, program: str) -> list[psutil.Process]:
        found = []
        for process in self.ps.children():
            with contextlib.suppress(psutil.Error):
                if any(program in word for word in process.cmdline()):
                    found.append(process)
        return found

    def zombies(self) -> list[psutil.Process]:
        return [p for p in self.ps.children() if p.status() == psutil.STATUS_ZOMBIE]

    def kill_worker(self) -> None:
        self.workers()[0].kill()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def hold(self) -> Path:
        """Hold the worker at its next batch; unlink the file to release it."""
        path = Path(f"{self.bundle}.hold")
        path.touch()
        return path

    def logs(self) -> list[dict[str, Any]]:
        """Return the JSON log lines."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def write_bundle(path: Path, **row: Any) -> Path:
    """Write the fake's bundle, atomically as real ones are."""
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(row))
    draft.replace(path)
    return path
