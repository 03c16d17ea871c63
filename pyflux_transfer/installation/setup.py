"""Sets Julia up: resolves an environment or takes the user's own, proves it and registers it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from platformdirs import user_data_path

from pyflux_transfer.errors import EngineError
from pyflux_transfer.installation import image
from pyflux_transfer.installation.environment import Julia, julia_package, register, variables

OLDEST = (1, 10)
PACKAGE_SERVER = "https://pkg.julialang.org"

# Silent for this long, a subprocess is taken for hung; compiling Flux is the longest silence.
SILENCE_S = 1800
CONNECT_S = 10

_RESOLVE = """
import json, sys, juliapkg
for row in json.loads(sys.argv[1]):
    juliapkg.add(row.pop("name"), **row)
juliapkg.resolve()
print("ready", json.dumps([juliapkg.executable(), juliapkg.project()]))
"""

_PROBE = """
package = Base.identify_package("PythonCall")
file = package === nothing ? nothing : Base.locate_package(package)
folder = file === nothing ? "" : joinpath(dirname(dirname(file)), "Project.toml")
found = isempty(folder) ? nothing : match(r"(?m)^version *= *\\"(.*)\\"", read(folder, String))
println("PythonCall ", found === nothing ? "missing" : found[1])
for name in ("Flux", "Metalhead", "Optimisers")
    package = Base.identify_package(name)
    package === nothing && println("missing ", name)
end
"""

_SMOKE = """
import json, time
begin = time.monotonic()
import numpy as np
from pyflux_transfer.networks.catalog import architecture
from pyflux_transfer.engines import base
from pyflux_transfer.engines.flux import julia, network as flux
from pyflux_transfer.networks.head import Head
net = flux.build(base.Plan(architecture("resnet18"), Head(2)))
print(f"built a network after {time.monotonic() - begin:.0f} s", flush=True)
net.cut_at(len(net.units) - 1)
x = net.embed(np.zeros((2, 3, 64, 64), np.float32))
net.prepare(base.Update())
loss = net.step(x, np.array([0, 1]), {"head": 1e-3})
assert np.isfinite(loss), loss
print(f"predicted and trained after {time.monotonic() - begin:.0f} s", flush=True)
print("report", json.dumps(julia.call("report")), flush=True)
"""

# Kernels that leave half of AVX-512 unused, and those older than AVX2: what OpenBLAS falls back to
# on a processor it does not know.
AVX2_KERNELS = ("haswell", "zen", "excavator")
OLD_KERNELS = (
    "prescott", "core2", "penryn", "dunnington", "nehalem", "sandybridge", "atom", "generic",
    "barcelona", "bobcat", "bulldozer", "katmai", "coppermine", "northwood", "banias", "opteron",
    "athlon",
)  # fmt: skip


def setup(
    julia: Path | str | None = None,
    project: Path | str | None = None,
    load_path: Sequence[str] = (),
    depot: str = "",
    gpu: bool = False,
    threads: int = 0,
    env: Mapping[str, str] | None = None,
    sysimage: bool = False,
) -> Iterator[str]:
    """Prepare Julia and register it for later commands; yield lines of progress.

    Without `julia`, juliapkg finds or installs one and resolves the packages. With it, that Julia
    and its `project` (default: its own shared environment) are taken as they are. Either way a
    network is built, run and trained before anything is registered. With `sysimage` a system image
    is made, and tried out like the rest. May be called again. Raises EngineError with the remedy
    where a step fails.
    """
    try:
        juliacall = metadata.version("juliacall")
    except metadata.PackageNotFoundError:
        raise EngineError(
            "juliacall is not installed. Run: pip install 'pyflux-transfer[flux]'"
        ) from None
    if julia is None:
        exe, home = yield from _resolved(gpu)
    else:
        exe, home = _given(julia, project)
    found = Julia(exe, home, tuple(load_path), depot, threads, dict(env or {}), juliacall)
    yield f"Julia {_version(exe)} at {exe}, project {home}"
    yield from _probed(found, juliacall)
    yield "compiling and trying it out; the first time takes minutes"
    report = yield from _smoke(found)
    if kernels := better_kernels(report.get("BLAS kernels", "")):
        yield f"OpenBLAS runs on {report['BLAS kernels']} kernels: setting {kernels}"
        found = replace(found, env={**found.env, "OPENBLAS_CORETYPE": kernels})
    if sysimage:
        yield from _imaged(found)
        found = replace(found, sysimage=True)
        yield "trying it out with the system image"
        yield from _smoke(found)
    yield f"registered in {register(found)}"


def _imaged(julia: Julia) -> Iterator[str]:
    """Make the system image of a Julia, unless it is there."""
    package = julia_package()
    made = image.file(julia.exe, julia.project, package)
    if made.is_file():
        yield f"the system image is there: {made}"
        return
    command = image.command(julia.exe, julia.project, package)
    yield "making a system image: several minutes, 400 MB"
    yield from _lines(command, variables(julia), "Making the system image")
    if not made.is_file():
        raise EngineError(f"The system image was not made: there is no {made}. Run setup again.")
    yield f"system image of {made.stat().st_size >> 20} MB: {made}"


def better_kernels(kernels: str) -> str:
    """Return the kernels OpenBLAS should use where it chose an older processor's, else ""."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    except OSError:
        return ""
    wide = {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags
    if wide and kernels.lower() in (*OLD_KERNELS, *AVX2_KERNELS):
        return "SkylakeX"
    return "Haswell" if "avx2" in flags and kernels.lower() in OLD_KERNELS else ""


def _given(julia: Path | str, project: Path | str | None) -> tuple[str, str]:
    exe = shutil.which(str(julia))
    if exe is None:
        raise EngineError(f"There is no Julia at {julia}. Give --julia the path of the executable.")
    _version(exe)
    if project is None:
        home = _output(exe, "-e", 'print(dirname(Base.load_path_expand("@v#.#")))', {})
    else:
        home = str(Path(project).absolute())
    if not Path(home).is_dir():
        raise EngineError(f"The project {home} is no folder. Give --project a Julia environment.")
    return exe, home


def _version(exe: str) -> str:
    done = _run([exe, "--version"], {})
    text = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[0]
    match = re.match(r"julia version ((\d+)\.(\d+)\.\d+\S*)", text)
    if match is None:
        raise EngineError(
            f"{exe} is not a Julia: it answers {text!r} to --version. "
            "Give --julia the path of the executable."
        )
    if (int(match[2]), int(match[3])) < OLDEST:
        raise EngineError(
            f"Julia {match[1]} is too old: 1.10 or newer is needed. Install one from "
            "https://julialang.org/downloads, or leave --julia out to have one installed."
        )
    return match[1]


def _probed(julia: Julia, juliacall: str) -> Iterator[str]:
    text = _output(julia.exe, "-e", _PROBE, variables(julia), f"--project={julia.project}")
    lines = text.splitlines()
    missing = [line.split()[1] for line in lines if line.startswith("missing ")]
    version = next((line.split()[1] for line in lines if line.startswith("PythonCall ")), "missing")
    if version == "missing":
        missing.insert(0, "PythonCall")
    if missing:
        raise EngineError(
            f"The Julia environment {julia.project} lacks {', '.join(missing)}. Add them there "
            f"(import Pkg; Pkg.add({json.dumps(missing)})), or leave --julia out."
        )
    if version != juliacall:
        raise EngineError(
            f"PythonCall {version} in {julia.project} does not fit juliacall {juliacall}. "
            f'Run: pip install juliacall=={version}, or Pkg.add(name="PythonCall", '
            f'version="{juliacall}") there.'
        )
    yield f"PythonCall {version}"


def _resolved(gpu: bool) -> Generator[str, None, tuple[str, str]]:
    """Let juliapkg install Julia and its packages; return executable and project."""
    server = os.environ.get("JULIA_PKG_SERVER") or PACKAGE_SERVER
    try:
        urlopen(server, timeout=CONNECT_S).close()
    except (URLError, OSError, ValueError) as error:
        raise EngineError(
            f"No network: {server} cannot be reached ({error}). Connect and run setup again, or "
            "register a Julia you have: pyflux-transfer setup --julia EXE --project DIR"
        ) from None
    home = user_data_path("pyflux-transfer", appauthor=False) / "julia"
    packages: list[dict[str, str | bool]] = [
        {"name": "PyFluxTransfer", "uuid": _uuid(), "dev": True, "path": str(julia_package())}
    ]
    if gpu:
        packages += [
            {"name": "CUDA", "uuid": "052768ef-5323-5732-b1bb-66c8b64840ba"},
            {"name": "cuDNN", "uuid": "02a925ec-e4fe-4b08-9a7e-0d78e3d38ccd"},
        ]
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"Cannot write to {home}: {error.strerror}. Set XDG_DATA_HOME.") from None
    env = {"PYTHON_JULIAPKG_PROJECT": str(home)}
    command = [sys.executable, "-u", "-c", _RESOLVE, json.dumps(packages)]
    last: list[str] = []
    for line in _lines(command, env, "Resolving the Julia packages"):
        if line.startswith("ready "):
            last = json.loads(line.removeprefix("ready "))
        else:
            yield line
    return last[0], last[1]


def _uuid() -> str:
    text = (julia_package() / "Project.toml").read_text("utf-8")
    match = re.search(r'^uuid = "(.+)"$', text, re.MULTILINE)
    assert match is not None
    return match[1]


def _smoke(julia: Julia) -> Generator[str, None, dict[str, str]]:
    """Build, run and train a small network in a process of its own; return Julia's report."""
    report: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "config.json"
        register(julia, trial)
        command = [sys.executable, "-u", "-c", _SMOKE]
        for line in _lines(command, {"PYFLUX_CONFIG": str(trial)}, "The trial run"):
            if line.startswith("report "):
                rows = json.loads(line.removeprefix("report "))
                report = dict(row.split("\t") for row in rows)
                yield ", ".join(f"{name} {value}" for name, value in report.items() if value)
            else:
                yield line
    return report


def _lines(command: Sequence[str], env: Mapping[str, str], what: str) -> Iterator[str]:
    """Run a command and yield its lines; raise EngineError where it fails or falls silent."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    seen: list[str] = []
    try:
        while True:
            silence = threading.Timer(SILENCE_S, process.kill)
            silence.start()
            line = process.stdout.readline()
            silence.cancel()
            if not line:
                break
            seen.append(line.rstrip())
            yield line.rstrip()
        status = process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if status:
        raise EngineError(f"{what} failed (exit {status}): " + _reason(seen))


def _reason(lines: Sequence[str]) -> str:
    """Return the line that says most: the last error, else the last line."""
    told = [line for line in lines if re.search(r"error|exception", line, re.IGNORECASE)]
    return (told or [*lines, "it said nothing"])[-1].strip()


def _output(exe: str, option: str, text: str, env: Mapping[str, str], *flags: str) -> str:
    done = _run([exe, "--startup-file=no", *flags, option, text], env)
    if done.returncode:
        raise EngineError(f"{exe} failed: {_reason(done.stderr.splitlines())}")
    return done.stdout.strip()


def _run(command: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"{command[0]} does not answer within 120 s.") from None
    except OSError as error:
        raise EngineError(f"{command[0]} cannot be run: {error.strerror}.") from None
