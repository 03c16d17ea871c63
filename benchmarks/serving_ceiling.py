"""What the processor could do at most: the network and the decoding, and nothing else.

    python benchmarks/serving_ceiling.py BUNDLE

prints the processor time of both for one of the photos of serving.py, in milliseconds, and how many
photos a second all cores could answer if that were all.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from serving import photos
from serving_targets import MAX_BATCH, open_model

from pyflux_transfer.data.preprocess import load
from pyflux_transfer.engines.torch.allocator import keep_memory

SECONDS = 4.0


def processor_ms(function: Callable[[], object], images: int) -> float:
    """Return the median of the processor time an image, all threads together."""
    function()
    spent, ends = [], time.monotonic() + SECONDS
    while time.monotonic() < ends:
        before = time.process_time()
        function()
        spent.append(1000 * (time.process_time() - before) / images)
    return float(np.median(spent))


def costs(bundle: str) -> tuple[float, float]:
    """Return the processor milliseconds a photo of the network, and of the decoding."""
    keep_memory()  # as a worker does
    model = open_model(bundle)
    files, cores = photos(), len(os.sched_getaffinity(0))

    def decode() -> list[np.ndarray]:
        return [load(file, model.description.preprocessing) for file in files]

    batch = np.stack((decode() * cores)[: MAX_BATCH * cores])
    network = processor_ms(lambda: model.predict(batch), len(batch))
    return network, processor_ms(decode, len(files))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle")
    network, decoding = costs(parser.parse_args().bundle)
    cores = len(os.sched_getaffinity(0))
    print(f"network {network:.2f} ms, decoding {decoding:.2f} ms, {cores} cores: ", end="")
    print(f"{1000 * cores / (network + decoding):.0f} photos/s")


if __name__ == "__main__":
    main()
