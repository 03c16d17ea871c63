"""One side of `benchmarks.steps`: an engine, by the protocol that both have."""

from __future__ import annotations

import importlib
import re
import sys
import time
from pathlib import Path

import numpy as np

from pyflux_transfer.engines.base import Plan, Update, tail_stages
from pyflux_transfer.networks.catalog import architecture
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.units import resolve_cut


def main() -> None:
    engine, name, stage, batch = sys.argv[1:5]
    module = importlib.import_module(f"pyflux_transfer.engines.{engine}.network")
    plan = Plan(architecture(name), Head(3), seed=0, precision="fp32", device="cpu")
    network = module.build(plan)
    cut = resolve_cut(network.units, stage)
    network.cut_at(cut)
    network.prepare(Update())
    rng = np.random.default_rng(0)
    images = rng.standard_normal((int(batch), 3, 224, 224), np.float32)
    x = np.ascontiguousarray(network.embed(images))
    y = rng.integers(0, 3, int(batch))
    rates = dict.fromkeys(tail_stages(network.units, cut), 1e-4)
    for line in sys.stdin:
        if line.strip() == "end":
            peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
            assert peak
            print("=", int(peak[1]) / 1024, flush=True)
            continue
        wall, busy = time.perf_counter(), time.process_time()
        network.step(x, y, rates)
        print("=", time.perf_counter() - wall, time.process_time() - busy, flush=True)


if __name__ == "__main__":
    main()
