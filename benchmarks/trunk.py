"""The frozen ResNet-50 trunk in Julia against a plain Metalhead call, on this processor.

    python -m benchmarks.trunk [--images 8]

prints milliseconds an image, the gain, and the share of the matrix-product ceiling that was
measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks import networks
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.flux.network import describe
from pyflux_transfer.installation import environment
from pyflux_transfer.networks.catalog import architecture


def measure(images: int) -> dict[str, str]:
    """Run the Julia side with the registered Julia; return what it measured."""
    julia = environment.registered()
    if julia is None:
        raise SystemExit(f"This needs a Julia: {environment.readiness()}")
    variables = environment.variables(julia)
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.toml"
        plan.write_text(describe(Plan(architecture("resnet50"))), "utf-8")
        threads = variables["PYTHON_JULIACALL_THREADS"]
        script = Path(__file__).with_suffix(".jl")
        done = subprocess.run(
            [julia.exe, "--startup-file=no", f"--project={julia.project}", f"--threads={threads}",
             str(script), str(plan), str(images)],
            env={**os.environ, **variables}, capture_output=True, text=True, check=True,
        )  # fmt: skip
    return dict(line.split("\t") for line in done.stdout.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    found = measure(parser.parse_args().images)
    plain, trunk, ceiling = (float(found[name]) for name in ("plain", "trunk", "ceiling"))
    floor = networks.flops("resnet50") / 1e6 / ceiling
    rows = (
        ("plain Metalhead", f"{plain:.1f} ms an image", ""),
        ("rewritten trunk", f"{trunk:.1f} ms an image", f"{plain / trunk:.2f} times as fast"),
        ("arithmetic alone", f"{floor:.1f} ms an image", f"{floor / trunk:.0%} reached"),
        ("matrix products", f"{ceiling:.0f} GFLOP/s", f"{found['kernels']} kernels"),
        ("difference", f"{float(found['difference']):.0e}", "of the largest feature"),
    )
    for name, value, remark in rows:
        print(f"{name:<18}{value:>20}   {remark}")


if __name__ == "__main__":
    main()
