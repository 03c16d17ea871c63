"""The versions of the program and of its engines, without starting one."""

from __future__ import annotations

import contextlib
import re
import subprocess
from importlib import metadata
from pathlib import Path

from pyflux_transfer._version import __version__
from pyflux_transfer.errors import EngineError
from pyflux_transfer.installation import environment

JULIA_S = 10  # `julia --version` takes a hundredth of a second
_MANIFESTS = ("Manifest-v{}.toml", "Manifest.toml")
_PACKAGES = ("Flux", "Metalhead")


def versions() -> list[tuple[str, str]]:
    """Return each part with its version, an engine that is not there with what is missing."""
    return [
        ("pyflux-transfer", __version__),
        ("torch engine", _package("torch", "PyTorch", "torch")),
        ("onnx engine", _package("onnxruntime", "ONNX Runtime", "onnx")),
        ("flux engine", _flux()),
    ]


def _package(package: str, name: str, extra: str) -> str:
    found = _installed(package)
    return f"{name} {found}" if found else f"none. Run: pip install 'pyflux-transfer[{extra}]'"


def _flux() -> str:
    if missing := environment.readiness():
        return f"none, {missing}"
    try:
        julia = environment.registered()
    except EngineError as error:
        return f"none, {error}"
    assert julia is not None  # readiness said so
    number = _julia(julia.exe)
    packages = (f"{name} {v}" for name, v in _resolved(Path(julia.project), number).items())
    return ", ".join([f"Julia {number}", *packages, f"juliacall {_installed('juliacall')}"])


def _installed(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _julia(exe: str) -> str:
    try:
        told = subprocess.run(
            [exe, "--version"], capture_output=True, text=True, timeout=JULIA_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return "(it does not tell its version; see: pyflux-transfer doctor)"
    return told.strip().rpartition(" ")[2]


def _resolved(project: Path, julia: str) -> dict[str, str]:
    """Return the versions of the packages that matter, as the environment's manifest has them."""
    folder = project if project.is_dir() else project.parent
    minor = ".".join(julia.split(".")[:2])
    files = (folder / name.format(minor) for name in _MANIFESTS)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return {}
    text = file.read_text("utf-8", errors="replace")
    pattern = r'^\[\[deps\.{}\]\]\n(?:(?!\[).*\n)*?version = "([^"]+)"'
    found = {name: re.search(pattern.format(name), text, re.MULTILINE) for name in _PACKAGES}
    return {name: match[1] for name, match in found.items() if match}
