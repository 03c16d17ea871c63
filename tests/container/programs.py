"""Podman's or Docker's command line: builds the image, and runs it as it is meant to run."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent.parent
# What podman, and its runtime, need where limits cannot be raised and addresses not be given out:
# as root of a sandbox. The first that starts a container is taken.
WAYS = ((), ("--runtime=runc", "--network=host", "--ulimit=nofile=4096", "--ulimit=nproc=4096"))
RESTRICTED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
# Without user namespaces and Docker's format there would be no build, and no health.
PODMAN_BUILD = ("--isolation=chroot", "--format=docker")


class Program:
    """One of both programs, and what of its options this machine wants."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.podman = Path(path).name == "podman"
        self.options: tuple[str, ...] = ()

    def call(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it; what it says on stderr is in the error."""
        done = subprocess.run([self.path, *arguments], capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{shlex.join(done.args)}\n{done.stderr}"
        return done

    def build(self, target: str) -> str:
        """Build a target; PYFLUX_BUILD_OPTIONS adds to the command. Return the image's name."""
        name = f"pyflux-transfer:{target}"
        given = shlex.split(os.environ.get("PYFLUX_BUILD_OPTIONS", ""))
        own = PODMAN_BUILD if self.podman else ()
        self.call("build", *own, *given, f"--target={target}", f"--tag={name}", str(ROOT))
        return f"localhost/{name}" if self.podman else name

    def choose(self, image: str) -> None:
        """Find the options with which a container starts here; say what all of them said."""
        said = []
        for options in WAYS:
            done = self.call("run", "--rm", *options, image, "--version", check=False)
            if done.returncode == 0:
                self.options = options
                return
            said.append(done.stderr)
        raise AssertionError("no container can be started:\n" + "\n".join(said))

    def start(self, *arguments: str) -> Container:
        """Start a container that stays, with this machine's options."""
        done = self.call("run", "--detach", *self.options, *arguments)
        return Container(self, done.stdout.strip())

    def inside(self, image: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
        """Run Python in a container of its own, and return what it printed."""
        words = (*self.options, *options, "--entrypoint=python", image, *arguments)
        return self.call("run", "--rm", *words).stdout

    def about(self, name: str) -> dict[str, Any]:
        """Return what `inspect` tells of an image or a container."""
        (row,) = json.loads(self.call("inspect", name).stdout)
        return dict(row)


class Container:
    """A container that runs."""

    def __init__(self, program: Program, name: str) -> None:
        self.program = program
        self.name = name

    def execute(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as the service's user; it may fail."""
        return self.program.call("exec", self.name, *arguments, check=False)

    def healthy(self) -> bool:
        """Tell what the image's HEALTHCHECK says: podman is asked now, Docker asks by itself."""
        if self.program.podman:
            done = self.program.call("healthcheck", "run", self.name, check=False)
            return done.returncode == 0
        return bool(self.program.about(self.name)["State"]["Health"]["Status"] == "healthy")

    def running(self) -> bool:
        """Tell whether it has not ended."""
        return bool(self.program.about(self.name)["State"]["Running"])

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        return int(self.program.call("wait", self.name).stdout)

    def logs(self) -> str:
        """Return what it has printed so far."""
        done = self.program.call("logs", self.name, check=False)
        return done.stdout + done.stderr

    def remove(self) -> None:
        """End it where it still runs."""
        self.program.call("rm", "--force", self.name, check=False)


class Service(Container):
    """The service in a container, reached by a port of this machine."""

    def __init__(self, container: Container, port: int) -> None:
        super().__init__(container.program, container.name)
        self.port = port
        self.address = f"http://127.0.0.1:{port}"

    def ready(self, seconds: float = 300) -> Service:
        """Wait until it can answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.running():
            try:
                if httpx.get(f"{self.address}/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"the service did not become ready:\n{self.logs()}")


def serve(program: Program, image: str, bundle: Path) -> Service:
    """Serve a bundle, read-only and without capabilities."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ports = (f"--publish=127.0.0.1:{port}:{port}", f"--env=PYFLUX_PORT={port}")
    volume = f"--volume={bundle}:/model.safetensors:ro"
    words = (*RESTRICTED, *ports, volume, image, "serve", "/model.safetensors")
    return Service(program.start(*words), port)
