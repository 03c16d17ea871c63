"""Every architecture's ONNX file beside the engine: difference of the logits, size, speed.

    python -m benchmarks.export [ARCHITECTURE …]

Weights are random (seeded, as the tests have them), images normal noise: a difference there is one
of arithmetic. Prepared batches of one image, one thread each; the shortest of three runs, by the
processor's clock, so that other programs do not count.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from pyflux_transfer import predict
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.export.classifier import LOGITS, model
from pyflux_transfer.export.running import Exported
from pyflux_transfer.networks.catalog import MODELS, imagenet_classes
from pyflux_transfer.networks.units import tensors
from tests.engines.seeded import noise, seeded

Row = tuple[str, ...]
HEADS: Row = (
    "architecture", "side", "difference of logits, share of the largest", "file, MiB",
    "ms an image: ours", "ONNX Runtime", "ours / ONNX Runtime",
)  # fmt: skip


def row(name: str, folder: Path) -> Row:
    """Return the table's cells for an architecture."""
    arch = MODELS[name]
    state = seeded(name, tensors(Plan(arch).units))
    bundle = Bundle(name, imagenet_classes(), None, arch.preprocessing, 0, state)
    path, side = folder / f"{name}.onnx", bundle.preprocessing.crop
    path.write_bytes(model(bundle, "tensor", answer=LOGITS).SerializeToString())
    network = predict.restore(bundle, "torch", precision="fp32")
    exported, images = Exported(path, threads=1), noise(1, 3, side, side)
    expected = predict.finite_logits(network, images)
    difference = np.abs(exported(images) - expected).max() / np.abs(expected).max()
    ours = milliseconds(lambda: predict.finite_logits(network, images))
    theirs = milliseconds(lambda: exported(images))
    size = path.stat().st_size / 2**20
    path.unlink()
    cells = (f"{difference:.0e}", f"{size:.0f}", f"{ours:.1f}", f"{theirs:.1f}")
    return (name, str(side), *cells, f"{ours / theirs:.2f}")


def milliseconds(run: Callable[[], object]) -> float:
    """Return the shortest time of three runs, all threads' together."""
    times = []
    for _ in range(3):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def lines(names: list[str]) -> Iterator[str]:
    """Yield the table."""
    yield _line(HEADS)
    yield _line(tuple("---" for _ in HEADS))
    with tempfile.TemporaryDirectory(prefix="pyflux-export-") as folder:
        for name in names:
            yield _line(row(name, Path(folder)))


def _line(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export")
    parser.add_argument("names", nargs="*", help="architectures; all by default")
    names = parser.parse_args().names or sorted(MODELS, key=lambda name: MODELS[name].parameters)
    torch.set_num_threads(1)
    print(
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, one used, load "
        f"{os.getloadavg()[0]:.1f}; PyTorch {torch.__version__}, ONNX Runtime "
        f"{onnxruntime.__version__}\n"
    )
    for line in lines(names):
        print(line, flush=True)


if __name__ == "__main__":
    main()
