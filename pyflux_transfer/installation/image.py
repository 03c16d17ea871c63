"""A system image: Julia with the Julia package inside, for processes that shall start quickly.

A Julia that is started with an image goes on using the packages inside it, whatever was installed
since. So its file is named by what it was made of, and one that no longer fits is not found.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import cache
from pathlib import Path

from pyflux_transfer.errors import EngineError
from pyflux_transfer.installation import depot

# Next to src/, so that it is in the wheel; it runs in Julia alone.
_SCRIPT = "sysimage.jl"
_COMPILERS = ("gcc", "clang", "cc")


@cache
def file(exe: str, project: str, package: Path) -> Path:
    """Return where the image of this Julia, project and Julia package lies, once it is made."""
    digest = hashlib.sha256(str(Path(exe).resolve()).encode())
    parts = [*sorted((package / "src").glob("*.jl")), package / "Project.toml"]
    for part in (*parts, *sorted(Path(project).glob("*.toml"))):
        digest.update(part.name.encode() + part.read_bytes())
    return depot.own(package) / f"image-{digest.hexdigest()[:16]}.so"


def command(exe: str, project: str, package: Path) -> list[str]:
    """Return the command that makes the image; raise EngineError where it cannot succeed.

    Images that do not fit any more are deleted.
    """
    if not (os.environ.get("JULIA_CC") or any(map(shutil.which, _COMPILERS))):
        raise EngineError(
            "A system image needs a C compiler, and there is no gcc or clang here. Install one, or "
            "leave --sysimage out."
        )
    image = file(exe, project, package)
    image.parent.mkdir(parents=True, exist_ok=True)
    for other in image.parent.glob("image-*.so"):
        if other != image:
            other.unlink()
    script = str(package / _SCRIPT)
    return [exe, "--startup-file=no", f"--project={project}", script, str(image), project]
