"""Says what of the engines is there, and for each missing part the remedy."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pyflux_transfer.installation import environment
from pyflux_transfer.installation.environment import Julia, cores
from pyflux_transfer.installation.setup import better_kernels

JULIA_S = 300

_REPORT = """
using PyFluxTransfer
gpu = PyFluxTransfer.load_gpu()
foreach(println, PyFluxTransfer.report())
println("GPU\\t", gpu ? PyFluxTransfer.device_name(PyFluxTransfer.Flux.gpu_device()) : "none")
println("GFLOP/s\\t", round(Int, PyFluxTransfer.ceiling()))
"""


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found, and what to do where it is not well."""

    name: str
    ok: bool
    value: str
    remedy: str = ""


def doctor() -> list[Check]:
    """Look at Python, the engines and their packages; starts Julia in a process of its own."""
    checks = [
        Check("Python", True, f"{platform.python_version()}, {cores()} processors"),
        _installed("torch", "pip install 'pyflux-transfer[torch]'"),
        _installed("onnxruntime", "pip install 'pyflux-transfer[onnx]'"),
        _installed("juliacall", "pip install 'pyflux-transfer[flux]'"),
        Check("configuration", True, str(environment.config_file())),
    ]
    missing = environment.readiness()
    checks.append(
        Check("flux engine", missing is None, "set up" if missing is None else "not ready",
              missing or "")
    )  # fmt: skip
    if missing is None:
        julia = environment.registered()
        assert julia is not None  # readiness said so
        checks += julia_checks(julia)
    return checks


def julia_checks(julia: Julia) -> list[Check]:
    """Start a registered Julia and report what it says of itself."""
    variables = environment.variables(julia)
    threads = variables["PYTHON_JULIACALL_THREADS"]
    command = [
        julia.exe, "--startup-file=no", f"--project={julia.project}", f"--threads={threads}",
        "-e", _REPORT,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=JULIA_S,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        told = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[0]
        return [Check("Julia", False, told, environment.SETUP)]
    found = dict(line.split("\t") for line in done.stdout.splitlines() if "\t" in line)
    return [_row(name, value, found) for name, value in found.items()] + [
        Check("Julia executable", True, julia.exe),
        Check("Julia project", True, julia.project),
        Check("Julia packages' cache", True, variables.get("JULIA_DEPOT_PATH", "").strip(os.pathsep)
              or str(Path.home() / ".julia")),
        *_image(julia),
    ]  # fmt: skip


def _image(julia: Julia) -> list[Check]:
    made = environment.system_image(julia)
    if made is None:
        return []
    if made.is_file():
        return [Check("Julia system image", True, str(made))]
    told = "made of other versions than those installed now: Julia starts without it"
    return [Check("Julia system image", False, told, "Run: pyflux-transfer setup --sysimage")]


def _row(name: str, value: str, found: dict[str, str]) -> Check:
    if name == "BLAS kernels" and (better := better_kernels(value)):
        return Check(
            name,
            False,
            f"{value}: those of an older processor, at {found['GFLOP/s']} GFLOP/s",
            f"Run setup again, or set OPENBLAS_CORETYPE={better}",
        )
    if name == "GPU" and value == "none":
        return Check(name, True, "none found by Julia", "pyflux-transfer setup --gpu adds CUDA")
    return Check(name, True, value)


def _installed(package: str, remedy: str) -> Check:
    try:
        return Check(package, True, metadata.version(package))
    except metadata.PackageNotFoundError:
        return Check(package, False, "not installed", remedy)
