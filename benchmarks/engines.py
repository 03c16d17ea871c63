"""Prediction by every engine, beside ONNX Runtime as it comes and PyTorch eager and compiled.

    python -m benchmarks.engines [ARCHITECTURE …] [--batches 1 4 16 64] [--threads N]
        [--peers PYTHON] [--avx2]

Random weights, prepared batches, milliseconds an image: the shortest of several calls, by the
wall's clock and, in brackets, by the processors' (see `clocks`), in processes of their own that
take turns. `--peers` names a Python with torchvision and timm, whose networks are run as they are;
`--avx2` limits PyTorch (ONNX Runtime knows no such limit). On a busy machine only the processors'
clock and `--threads 1` mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator

from benchmarks import measure
from benchmarks.table import line

# One of each family.
NAMES = (
    "resnet50", "resnext50_32x4d", "vgg16", "alexnet", "squeezenet1_1", "mobilenet_v2",
    "mobilenet_v3_large", "efficientnet_lite0", "efficientnet_b0", "efficientnet_v2_s",
    "densenet121", "googlenet", "inception_v3", "convnext_tiny", "vit_b_16", "dinov2_vits14",
)  # fmt: skip
OURS = {"onnx": "onnx", "torch fp32": "torch-fp32", "torch bf16": "torch-bf16", "ORT": "ort"}
PEERS = {"eager": "eager", "compiled": "compiled"}
Times = list[float]  # by the wall's clock, by the processors'
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def measured(
    python: str, kind: str, name: str, batches: list[int], more: dict[str, str]
) -> dict[str, Times]:
    """Return milliseconds an image by batch, of a process of its own; none where it fails."""
    module = "benchmarks.engines_peer" if kind in PEERS.values() else "benchmarks.engines_ours"
    done = subprocess.run(
        [python, "-m", module, kind, name, *map(str, batches)],
        cwd=measure.ROOT, env={**os.environ, **more}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        print(f"{kind} {name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {}
    found: dict[str, Times] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows(name: str, options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Yield the cells of an architecture, a row a batch."""
    kinds = {**OURS, **(PEERS if options.peers else {})}
    best: dict[str, dict[str, Times]] = {kind: {} for kind in kinds}
    for _ in range(options.rounds):
        for kind, word in kinds.items():
            python = options.peers if kind in PEERS else sys.executable
            more = AVX2 if options.avx2 else {}
            if options.threads:
                more = {**more, "OMP_NUM_THREADS": str(options.threads)}
            for batch, times in measured(python, word, name, options.batches, more).items():
                before = best[kind].get(batch, times)
                best[kind][batch] = [min(pair) for pair in zip(times, before, strict=True)]
    for batch in map(str, options.batches):
        yield (name, batch, *(_cell(found.get(batch)) for found in best.values()))


def _cell(times: Times | None) -> str:
    return "{:.1f} ({:.1f})".format(*times) if times else "–"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines")
    parser.add_argument("names", nargs="*", help="architectures; one of each family by default")
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, help="of each; all processors by default")
    parser.add_argument("--peers", help="a Python with torchvision and timm")
    parser.add_argument("--avx2", action="store_true", help="limit PyTorch to AVX2")
    options = parser.parse_args()
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{platform.machine()}, {cores} cores, load {load:.1f}\n")
    head = ("architecture", "batch", *OURS, *(PEERS if options.peers else {}))
    print(line(head), line("---" for _ in head), sep="\n")
    for name in options.names or NAMES:
        for cells in rows(name, options):
            print(line(cells), flush=True)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
