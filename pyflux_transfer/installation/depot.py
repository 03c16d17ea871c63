"""Where the Julia package is compiled to: each installation of this package has a depot of its own.

Julia names a compiled file by the environment alone, so that two installations on one environment
would overwrite each other's, a minute a time. The user's depots stay behind the own one: what is
compiled there is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pyflux_transfer._version import __version__
from pyflux_transfer.storage import cache_folder

COMPILING = "Compiling the Julia package, once for this installation: about a minute …"
_NOTE = "installation.txt"  # in a depot: the folder of the package it was made for


def own(package: Path) -> Path:
    """Return the depot of the installation whose Julia package lies in this folder.

    All lie in the user's cache folder; the environment variable PYFLUX_DEPOTS names another.
    """
    key = hashlib.sha256(f"{package}\n{__version__}".encode()).hexdigest()[:16]
    return Path(os.environ.get("PYFLUX_DEPOTS") or cache_folder() / "julia") / key


def path(package: Path, rest: str) -> str:
    """Return JULIA_DEPOT_PATH: the installation's own depot, then `rest`; empty is Julia's default.

    The own one is made where it is missing. Where it cannot be, `rest` alone is returned.
    """
    depot = own(package)
    try:
        _make(depot, package)
    except OSError:
        return rest
    others = [each for each in rest.split(os.pathsep) if Path(each).parent != depot.parent]
    return os.pathsep.join([str(depot), *others])


def compiled(package: Path, variables: Mapping[str, str]) -> bool:
    """Say whether the Julia package was compiled since it last changed, to foretell a wait.

    Julia itself decides: it also compiles anew where another package has changed.
    """
    sources = [package / "Project.toml", *(package / "src").glob("*.jl")]
    changed = max(each.stat().st_mtime for each in sources)
    depots = [
        Path(each) for each in variables.get("JULIA_DEPOT_PATH", "").split(os.pathsep) if each
    ]
    if (mine := own(package)).is_dir():  # in others' depots lies what other installations compiled
        depots = [mine]
    found = (file for depot in depots for file in depot.glob("compiled/v*/PyFluxTransfer/*.ji"))
    return any(each.stat().st_mtime >= changed for each in found)


def _make(depot: Path, package: Path) -> None:
    note = depot / _NOTE
    if note.is_file():
        return
    depot.mkdir(parents=True, exist_ok=True)
    note.write_text(str(package), "utf-8")
    for other in depot.parent.iterdir():
        if other != depot and _abandoned(other, package):
            shutil.rmtree(other, ignore_errors=True)


def _abandoned(depot: Path, package: Path) -> bool:
    """Say whether a depot's installation is gone, or is this one in another version."""
    with contextlib.suppress(OSError, ValueError):
        place = Path((depot / _NOTE).read_text("utf-8"))
        return place == package or not place.exists()
    return False
