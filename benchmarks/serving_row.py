"""The service and LitServe under 64 clients, and what network and decoder alone cost: as JSON.

A process of `benchmarks.service`, which makes rows of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # serving.py and its parts are programs

import serving
import serving_ceiling

import pyflux_transfer as pft
from benchmarks import measure

CLIENTS = (1, 64)


def main(architecture: str, folder: str, targets: list[str], rounds: int, seconds: float) -> None:
    """Let the services take turns; report medians of each, and the ceiling's two parts.

    The weights are random: what a service does is the same for all.
    """
    bundle = Path(folder) / f"serving-{architecture}.safetensors"
    network = pft.load(architecture, weights=None, engine="torch")
    network.with_head(["ants", "bees"]).save(bundle)
    rows: dict[str, dict[int, list[dict[str, float]]]] = {}
    with contextlib.ExitStack() as running:
        started = [running.enter_context(serving.Target(name, bundle)) for name in targets]
        for target in started:
            asyncio.run(serving.closed_loop(target.port, 8, 1.5))  # warm
            target.pause()
        for _ in range(rounds):
            for target in started:
                target.go_on()
                for clients in CLIENTS:
                    load = lambda port, c=clients: serving.closed_loop(port, c, seconds)  # noqa: E731
                    found = serving.window(target, load, seconds)
                    rows.setdefault(target.name, {}).setdefault(clients, []).append(found)
                target.pause()
    medians = {
        name: {
            str(clients): {key: float(np.median([row[key] for row in each])) for key in each[0]}
            for clients, each in by.items()
        }
        for name, by in rows.items()
    }
    alone, together = serving_ceiling.costs(str(bundle))
    measure.finish(found=medians, alone=alone, together=together)


if __name__ == "__main__":
    main(**measure.arguments())
