"""The flux engine's start: from `import` to the first prediction and the first training steps.

    python -m benchmarks.startup [--arch resnet50] [--side 224]

prints seconds since the start of the process, with the package's precompile workload and without
it, and how long the package's compilation took, which is paid once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pyflux_transfer.installation import environment

ROOT = Path(__file__).parents[1]
WORKLOAD = 'include("precompile.jl")\n'

COMPILE = "from pyflux_transfer.engines.flux.julia import call; call('report')"

PROCESS = """
import sys, time
began = time.perf_counter()
def tell(what): print(what, time.perf_counter() - began, sep="\\t", flush=True)
import numpy as np
from pyflux_transfer.networks.catalog import architecture
from pyflux_transfer.engines.flux.network import network as flux
from pyflux_transfer.engines.base import Plan, Update, tail_stages
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.units import resolve_cut
name, side = sys.argv[1], int(sys.argv[2])
tell("import")
network = flux.build(Plan(architecture(name), Head(3), seed=0))
tell("network built")
x, y = np.zeros((4, 3, side, side), np.float32), np.array([0, 1, 2, 0])
network.logits(network.embed(x))
tell("first prediction")
stages = list(dict.fromkeys(unit.stage for unit in network.units))
for what, stage in (("first step of the head", "head"), ("first step of all", stages[0])):
    network.cut_at(resolve_cut(network.units, stage))
    network.prepare(Update())
    network.step(network.embed(x), y, dict.fromkeys(tail_stages(network.units, network.cut), 1e-3))
    tell(what)
"""


def start(tree: Path, name: str, side: int) -> dict[str, float]:
    """Start one process on the package in `tree`; return seconds since its start."""
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, name, str(side)],
        cwd=tree, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )  # fmt: skip
    rows = (line.split("\t") for line in done.stdout.splitlines())
    return {what: float(seconds) for what, seconds in rows}


def compile_package(tree: Path) -> float:
    """Compile the Julia package in `tree`; return the seconds it took."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", COMPILE],
        cwd=tree, check=True, env={**os.environ, "PYTHONPATH": str(tree)},
    )  # fmt: skip
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--side", type=int, default=224)
    options = parser.parse_args()
    if missing := environment.readiness():
        raise SystemExit(f"This needs a Julia: {missing}")
    columns = {}
    with tempfile.TemporaryDirectory() as folder:
        for column, keep in (("without", False), ("with", True)):
            tree = Path(folder) / column
            for part in ("pyflux_transfer", "julia"):
                shutil.copytree(ROOT / part, tree / part)
            source = tree / "julia" / "src" / "PyFluxTransfer.jl"
            text = source.read_text("utf-8")
            assert WORKLOAD in text
            source.write_text(text if keep else text.replace(WORKLOAD, ""), "utf-8")
            once = {"compiling the package": compile_package(tree)}
            columns[column] = once | start(tree, options.arch, options.side)
    print(f"{'seconds':<26}{'without':>9}{'with':>9}  precompile workload")
    for what, seconds in columns["without"].items():
        print(f"{what:<26}{seconds:>9.1f}{columns['with'][what]:>9.1f}")


if __name__ == "__main__":
    main()
