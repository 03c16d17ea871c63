"""Frozen trunks in Julia against the same Flux layers called as they are, on this processor.

    python -m benchmarks.trunk [ARCHITECTURE …] [--images 4] [--rounds 3]

prints for one architecture of each family, or those named, milliseconds an image by the clock and
of all processors, which other programs disturb less: the shortest of the rounds, in which the two
sides take turns. The ceiling is that of matrix products, measured before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.flux.network import describe
from pyflux_transfer.installation import environment
from pyflux_transfer.networks.catalog import architecture

FAMILIES = (
    "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "densenet121", "efficientnet_b0",
    "efficientnet_lite0", "mobilenet_v2", "mobilenet_v3_large", "squeezenet1_1", "googlenet",
    "inception_v3", "vgg11_bn", "alexnet", "convnext_tiny", "vit_b_32", "dinov2_vits14",
)  # fmt: skip


def measure(names: Sequence[str], images: int, rounds: int) -> Iterator[list[str]]:
    """Run the Julia side with the registered Julia; yield the columns of each line it prints."""
    julia = environment.registered()
    if julia is None:
        raise SystemExit(f"This needs a Julia: {environment.readiness()}")
    variables = environment.variables(julia)
    with tempfile.TemporaryDirectory() as folder:
        plans = [Path(folder) / name for name in names]
        for plan in plans:
            plan.write_text(describe(Plan(architecture(plan.name))), "utf-8")
        threads = variables["PYTHON_JULIACALL_THREADS"]
        script = str(Path(__file__).with_suffix(".jl"))
        with subprocess.Popen(
            [julia.exe, "--startup-file=no", f"--project={julia.project}", f"--threads={threads}",
             script, str(images), str(rounds), *map(str, plans)],
            env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout
            for line in process.stdout:
                yield line.rstrip("\n").split("\t")
        if process.returncode:
            raise SystemExit(process.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=FAMILIES)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = measure(options.names, options.images, options.rounds)
    _, ceiling, kernels = next(rows)
    print(f"matrix products: {float(ceiling):.0f} GFLOP/s, {kernels} kernels; ms an image")
    print(f"{'':<20}{'Flux':>8}{'trunk':>8}{'ratio':>7}   of all processors: Flux, trunk, ratio")
    for name, *figures in rows:
        flux, flux_busy, ours, ours_busy, difference = map(float, figures)
        print(
            f"{name:<20}{flux:>8.1f}{ours:>8.1f}{flux / ours:>7.2f}{flux_busy:>12.1f}"
            f"{ours_busy:>8.1f}{flux_busy / ours_busy:>7.2f}   difference {difference:.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
