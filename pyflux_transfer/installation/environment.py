"""The Julia this machine uses: where it is written down, whether it is ready, how it is started.

`setup.setup` proves that a Julia works and registers it in the user's configuration file, which
every later command, test and worker process reads. Nothing here starts Julia.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

from platformdirs import user_config_path

from pyflux_transfer.errors import EngineError
from pyflux_transfer.installation import depot, image

SETUP = "Run: pyflux-transfer setup"

# Processes in which the flux engine has started Julia: this one, and in a fork its parent.
STARTED: set[int] = set()


@dataclass(frozen=True)
class Julia:
    """A Julia that was seen working.

    `project` is the environment with PythonCall and Flux, `load_path` what else is searched for
    packages, `depot` stands for JULIA_DEPOT_PATH behind the depot of this installation, `env` are
    further environment variables.
    `pythoncall` is the version it was seen with, which must equal juliacall's. With `sysimage` it
    is started with the system image that was made for it, as long as that fits.
    """

    exe: str
    project: str
    load_path: tuple[str, ...] = ()
    depot: str = ""
    threads: int = 0  # 0: as many as the processor has cores
    env: Mapping[str, str] = field(default_factory=dict)
    pythoncall: str = ""
    sysimage: bool = False


def config_file() -> Path:
    """Return the user's configuration file; PYFLUX_CONFIG names another."""
    if named := os.environ.get("PYFLUX_CONFIG"):
        return Path(named)
    return user_config_path("pyflux-transfer", appauthor=False) / "config.json"


def registered() -> Julia | None:
    """Return the registered Julia, or None; raise EngineError where the file is damaged."""
    file = config_file()
    try:
        row = json.loads(file.read_text("utf-8")).get("julia")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise EngineError(f"Cannot read {file}: {error}. Delete it, then {SETUP}") from error
    try:
        return None if row is None else Julia(**{**row, "load_path": tuple(row["load_path"])})
    except (TypeError, KeyError) as error:
        raise EngineError(f"{file} is not of this version: {error}. {SETUP}") from error


def register(julia: Julia, file: Path | None = None) -> Path:
    """Write the Julia into the configuration file, keeping what else is there; return the file."""
    file = file or config_file()
    try:
        rest = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        rest = {}
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".part")
    draft.write_text(json.dumps({**rest, "julia": asdict(julia)}, indent=2) + "\n", "utf-8")
    draft.replace(file)
    return file


def julia_package() -> Path:
    """Return the folder of the Julia package: beside this one, in a wheel inside it."""
    here = Path(__file__).parents[1]
    for folder in (here / "julia", here.parent / "julia"):
        if (folder / "Project.toml").is_file():
            return folder
    raise EngineError(
        f"The Julia package is missing: there is no julia/Project.toml in {here} or beside it. "
        "Install pyflux-transfer again."
    )


@cache
def processor() -> str:
    """Return what kind of processor this is: its model and a digest of its instruction sets."""
    found = _told_of_processor()
    if not found:
        return platform.processor() or platform.machine()
    digest = hashlib.sha256(" ".join(sorted(instructions())).encode()).hexdigest()[:8]
    names = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    kind = " ".join(found[name] for name in names if name in found)
    return f"{platform.machine()} {kind} {digest}"


def instructions() -> list[str]:
    """Return the names of the processor's instruction sets; none where the system tells none."""
    found = _told_of_processor()
    return (found.get("flags") or found.get("Features") or "").split()


@cache
def _told_of_processor() -> dict[str, str]:
    try:
        rows = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (row.partition(":") for row in rows)}


def visible_gpus(outer: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> list[str]:
    """Return the GPUs' numbers or names without asking an engine, which would load it."""
    named = outer.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    files = devices.glob("nvidia[0-9]*")
    return sorted((file.name.removeprefix("nvidia") for file in files), key=int)


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def variables(julia: Julia) -> dict[str, str]:
    """Return the environment variables that make juliacall, or Julia itself, start this Julia."""
    # The Julia package is found on the load path, so a moved checkout needs no new set-up. The
    # order is Julia's own: the project first, then what is asked for, then the standard library.
    path = ["@", str(julia_package()), *julia.load_path, "@stdlib"]
    values = {
        "PYTHON_JULIACALL_EXE": julia.exe,
        "PYTHON_JULIACALL_PROJECT": julia.project,
        "PYTHON_JULIACALL_THREADS": str(julia.threads or cores()),
        # Julia's threads stop each other by signals, so a Julia with several must handle them.
        "PYTHON_JULIACALL_HANDLE_SIGNALS": "yes",
        "JULIA_LOAD_PATH": os.pathsep.join(path),
        "JULIA_CONDAPKG_BACKEND": "Null",
    }
    rest = julia.depot or os.environ.get("JULIA_DEPOT_PATH", "")
    if depots := depot.path(julia_package(), rest):
        values["JULIA_DEPOT_PATH"] = depots
        values["PYFLUX_DEPOT"] = str(depot.own(julia_package()))
    if (made := system_image(julia)) is not None and made.is_file():
        values["PYTHON_JULIACALL_SYSIMAGE"] = str(made)
    return {**values, **julia.env}


def system_image(julia: Julia) -> Path | None:
    """Return where the system image of a Julia that asks for one lies, if it is made."""
    return image.file(julia.exe, julia.project, julia_package()) if julia.sysimage else None


def readiness() -> str | None:
    """Return None when Julia can be started, else one line: what is missing and the remedy."""
    try:
        juliacall = metadata.version("juliacall")
    except metadata.PackageNotFoundError:
        return "juliacall is not installed. Run: pip install 'pyflux-transfer[flux]'"
    try:
        julia = registered()
    except EngineError as error:
        return str(error)
    if julia is None:
        return f"no Julia is set up. {SETUP}"
    for path in (julia.exe, julia.project):
        if not Path(path).exists():
            return f"the registered Julia is gone: {path} does not exist. {SETUP}"
    if julia.pythoncall and julia.pythoncall != juliacall:
        return f"PythonCall {julia.pythoncall} does not fit juliacall {juliacall}. {SETUP}"
    if os.getpid() in STARTED:
        return None
    if getattr(sys.modules.get("juliacall"), "CONFIG", {}).get("inited"):
        return (
            "other code has started Julia in this process (juliacall), which only the thread that "
            "did so may call. Use a new process"
        )
    if "torch" in sys.modules:
        return "torch is loaded in this process, behind which Julia can crash. Use a new process"
    return None
