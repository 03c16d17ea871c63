"""One bundle behind each way to predict: ours, eager PyTorch, ONNX Runtime. A process runs one."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import measure, networks, tutorial
from pyflux_transfer import bundle as checkpoint
from pyflux_transfer import predict

BATCHES = (16, 1)
Predictor = Callable[[np.ndarray], np.ndarray]


def ours(bundle: Path, batch: int) -> tuple[Predictor, str]:  # noqa: ARG001
    network = predict.restore(checkpoint.read(bundle), "torch")
    return partial(predict.probabilities, network), network.precision


def eager(bundle: Path, batch: int) -> tuple[Predictor, str]:  # noqa: ARG001
    network = _network(bundle)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(images)).softmax(1).numpy()

    return run, "fp32"


def onnx(bundle: Path, batch: int) -> tuple[Predictor, str]:
    """Export for this batch size alone, which lets ONNX Runtime plan best."""
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, aloud
    warnings.simplefilter("ignore", FutureWarning)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        network = torch.nn.Sequential(_network(bundle), torch.nn.Softmax(1))
        example = (torch.zeros(batch, 3, 224, 224),)
        torch.onnx.export(network.eval(), example, file, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0], "fp32"


def _network(bundle: Path) -> torch.nn.Module:
    network: torch.nn.Module = networks.eager(checkpoint.describe(bundle).architecture, bundle)
    return network


PREDICTORS = {"ours": ours, "eager": eager, "onnx": onnx}


def arrays(kind: str, bundle: str, images: str, seconds: float, out: str) -> None:
    """Time batches of arrays; write the probabilities of all images."""
    data = np.load(images)
    times = {}
    for batch in BATCHES:
        predictor, precision = PREDICTORS[kind](Path(bundle), batch)
        chunk = data[:batch]
        call = partial(predictor, chunk)
        times[batch] = measure.best(call, seconds=seconds) / batch
        if batch == BATCHES[0]:
            whole = len(data) - len(data) % batch
            parts = [predictor(data[i : i + batch]) for i in range(0, whole, batch)]
            np.save(out, np.concatenate(parts))
    measure.finish(seconds_an_image=times, precision=precision)


def files(kind: str, bundle: str, folder: str, out: str) -> None:
    """Predict all photos of a folder; write the probabilities."""
    (_files_ours if kind == "ours" else _files_eager)(Path(bundle), Path(folder), Path(out))
    measure.finish()


def _files_ours(bundle: Path, folder: Path, out: Path) -> None:
    import pyflux_transfer as pft

    model = pft.load(bundle, engine="torch")
    answers = [dict(answer.top) for answer in model.predict(folder, top=len(model.classes))]
    np.save(out, np.array([[row[name] for name in model.classes] for row in answers]))


def _files_eager(bundle: Path, folder: Path, out: Path) -> None:
    data = tutorial.Photos(folder, augment=False)
    network = _network(bundle)
    loader = torch.utils.data.DataLoader(data, 16, num_workers=tutorial.WORKERS)
    with torch.inference_mode():
        np.save(out, np.concatenate([network(x).softmax(1).numpy() for x, _ in loader]))


if __name__ == "__main__":
    given = measure.arguments()
    {"arrays": arrays, "files": files}[given.pop("what")](**given)
