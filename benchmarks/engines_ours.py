"""One engine of ours, or ONNX Runtime as it comes, on random weights: a process of `engines`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.clocks import shortest
from pyflux_transfer import predict
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.networks.catalog import MODELS, imagenet_classes
from pyflux_transfer.networks.units import tensors
from tests.engines.seeded import noise, seeded

Predictor = Callable[[np.ndarray], np.ndarray]
SECONDS = 1.0


def engine(kind: str, bundle: Bundle) -> Predictor:
    """Return an engine's prediction, as the service and the command line make it."""
    name, _, precision = kind.partition("-")
    network = predict.restore(bundle, name, precision=precision or "fp32")  # type: ignore[arg-type]
    return lambda images: predict.finite_logits(network, images)


def ort(_: str, bundle: Bundle) -> Predictor:
    """Return ONNX Runtime's default session of the exported file, for whole batches."""
    import onnxruntime

    from pyflux_transfer.export.classifier import LOGITS, model

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        file.write_bytes(model(bundle, "tensor", answer=LOGITS).SerializeToString())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))  # 0: all
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def main(kind: str, name: str, *batches: str) -> None:
    """Print milliseconds an image by batch, by both clocks."""
    row = MODELS[name]
    state = seeded(name, tensors(row.units))
    bundle = Bundle(name, imagenet_classes(), None, row.preprocessing, 0, state)
    run, side = (ort if kind == "ort" else engine)(kind, bundle), row.preprocessing.crop
    found = {}
    for batch in batches:
        images = noise(int(batch), 3, side, side)
        times = shortest(lambda x=images: run(x), SECONDS)
        found[batch] = [1000 * seconds / len(images) for seconds in times]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
