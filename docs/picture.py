"""Draws docs/images/terminal.svg: a real run of the program's commands, as the terminal shows it.

Usage: python docs/picture.py. It takes about a minute and needs the `demo` extra.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from pyflux_transfer.demo import write_digits

PICTURE = Path(__file__).parent / "images" / "terminal.svg"
COMMANDS = (
    "train photos --arch efficientnet_lite0 --out digits.safetensors",
    "predict digits.safetensors unseen/3/060.png unseen/5/060.png unseen/8/060.png",
)
WIDTH = 108


def draw(folder: Path, environment: dict[str, str]) -> Console:
    """Run the commands in a folder and return a console that holds what they printed."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    for command in COMMANDS:
        print("$ pyflux-transfer", command, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "pyflux_transfer", *shlex.split(command)],
            cwd=folder, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        console.print(Text(f"$ pyflux-transfer {command}", "bold"))
        console.print(Text(done.stdout))
    return console


def main() -> None:
    """Write the photos, run, draw."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder / "photos", folder / "unseen")
        # As on a new machine: nothing cached, no Julia set up.
        new = {"PYFLUX_CACHE": str(folder / "cache"), "PYFLUX_CONFIG": str(folder / "none.json")}
        console = draw(folder, {**os.environ, **new, "COLUMNS": str(WIDTH)})
    # A picture within a page loads no fonts from elsewhere, so none are named.
    template = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    PICTURE.parent.mkdir(exist_ok=True)
    console.save_svg(str(PICTURE), title="pyflux-transfer", code_format=template)
    print(f"drawn {PICTURE}")


if __name__ == "__main__":
    main()
