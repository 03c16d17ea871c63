"""What kind of machine measures: its processor, and the instructions that compute on it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

# What decides the speed of a network, of all that a processor can.
_SETS = ("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
         "amx_tile", "amx_bf16", "asimd", "bf16", "sve", "sve2")  # fmt: skip
# One convolution in each type, with the name of oneDNN's kernel on stdout.
_PROGRAM = """
import torch
x = torch.randn(4, 64, 56, 56)
for dtype in (torch.float32, torch.bfloat16):
    try:
        torch.nn.functional.conv2d(x.to(dtype), torch.randn(64, 64, 3, 3).to(dtype), padding=1)
    except RuntimeError:
        pass
print("capability", torch.backends.cpu.get_cpu_capability())
"""


def processor() -> str:
    """Return the processor's name, family and cores, and which instruction sets it has."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0]
    except OSError:
        return f"{platform.processor() or platform.machine()}, {_cores()} cores"
    found = dict(re.findall(r"^([^\t:]+)\t*: (.*)$", text, re.MULTILINE))
    flags = set((found.get("flags") or found.get("Features") or "").split())
    name = found.get("model name") or platform.machine()
    family = f"family {found['cpu family']} model {found['model']}, " if "model" in found else ""
    sets = " ".join(each for each in _SETS if each in flags)
    return f"{name} ({family}{_cores()} cores; {sets})"


def kernels() -> str:
    """Return which instructions oneDNN and PyTorch compute with, limits of theirs included."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env={**os.environ, "ONEDNN_VERBOSE": "1"},
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    isa = re.search(r"cpu,isa:([^\n]+)", done)
    used = re.findall(r"exec,cpu,convolution,([^,]+),.*?src:?_?(f32|bf16)", done)
    capability = re.search(r"capability (\S+)", done)
    parts = [f"oneDNN: {isa[1]}" if isa else "no oneDNN"]
    parts += [f"{kind} by {kernel}" for kernel, kind in dict.fromkeys(used)]
    return "; ".join([*parts, f"PyTorch: {capability[1]}" if capability else "no PyTorch"])


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def table() -> str:
    """Return the lines that head a table: every figure below them is of this kind of machine."""
    return f"processor: {processor()}\ncomputed by: {kernels()}"


if __name__ == "__main__":
    print(table())
