"""What the processor could do at most: the network and the decoding, and nothing else.

    python benchmarks/serving_ceiling.py BUNDLE

prints the processor time of both for one of the photos of serving.py, in milliseconds, and how many
photos a second all cores could answer if that were all: each by itself, and both at a time, as in a
service, where each finds less of its own in the caches.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from serving import photos
from serving_targets import MAX_BATCH, open_model

from pyflux_transfer.data.preprocess import load, load_pixels, normalise
from pyflux_transfer.engines.torch.allocator import keep_memory

SECONDS = 4.0
BESIDE = "beside"  # as the first word: decode, beside a network


class Costs(NamedTuple):
    """Processor milliseconds a photo."""

    network: float
    decoding: float

    def per_second(self) -> float:
        """Return how many photos all cores could answer a second."""
        return 1000 * len(os.sched_getaffinity(0)) / sum(self)


def processor_ms(function: Callable[[], object], images: int) -> float:
    """Return the median of the processor time an image, all threads together."""
    function()
    spent, ends = [], time.monotonic() + SECONDS
    while time.monotonic() < ends:
        before = time.process_time()
        function()
        spent.append(1000 * (time.process_time() - before) / images)
    return float(np.median(spent))


def costs(bundle: str) -> tuple[Costs, Costs]:
    """Return what network and decoding cost each by itself, and at a time."""
    keep_memory()  # as a worker does
    model = open_model(bundle)
    files, cores = photos(), len(os.sched_getaffinity(0))

    def decode() -> list[np.ndarray]:
        return [load(file, model.description.preprocessing) for file in files]

    batch = np.stack((decode() * cores)[: MAX_BATCH * cores])
    network = processor_ms(lambda: model.predict(batch), len(batch))
    return Costs(network, processor_ms(decode, len(files))), _together(bundle, model)


def _together(bundle: str, model: Any) -> Costs:
    """Run both as a service does: batches in as many lanes, a process for each core that decodes.

    Normalising counts with the network, since workers do it.
    """
    how = model.description.preprocessing
    pixels = np.stack([load_pixels(file, how) for file in photos()[:MAX_BATCH]])
    program = [sys.executable, __file__, BESIDE, bundle]
    beside = [
        subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in os.sched_getaffinity(0)
    ]
    for each in beside:
        assert each.stdout
        each.stdout.readline()  # it is ready
    for each in beside:
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    with ThreadPoolExecutor(model.lanes) as lanes:

        def compute() -> None:
            list(lanes.map(lambda _: model.predict(normalise(pixels, how)), range(model.lanes)))

        network = processor_ms(compute, model.lanes * len(pixels))
    decoding = [float(each.communicate()[0]) for each in beside]
    return Costs(network, float(np.mean(decoding)))


def decode_beside(bundle: str) -> None:
    """Decode when told so, and print the milliseconds a photo."""
    how, files = open_model(bundle).description.preprocessing, photos()
    print("ready", flush=True)
    sys.stdin.readline()
    print(processor_ms(lambda: [load_pixels(file, how) for file in files], len(files)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle")
    rows = costs(parser.parse_args().bundle)
    for name, row in zip(("each by itself", "at a time"), rows, strict=True):
        print(
            f"{name}: network {row.network:.2f} ms, decoding {row.decoding:.2f} ms, "
            f"{row.per_second():.0f} photos/s"
        )


if __name__ == "__main__":
    decode_beside(sys.argv[2]) if sys.argv[1:2] == [BESIDE] else main()
