"""The torch engine's part of a comparison, in a process of its own.

    python -m tests.engines.torch_side FUNCTION OUT.npz ARGUMENTS-as-JSON

calls one of the functions below and writes the arrays it returns.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from pyflux_transfer.classifier import load
from pyflux_transfer.data.preprocess import prepare
from pyflux_transfer.engines.base import Labels, Network, Plan, Update, tail_stages
from pyflux_transfer.networks.catalog import Architecture, architecture
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.tensors import Array, State
from pyflux_transfer.networks.units import Unit, resolve_cut, tensors
from pyflux_transfer.predict import probabilities
from pyflux_transfer.training import deeper
from pyflux_transfer.training.verdict import Verdict
from pyflux_transfer.training.ways import QUALITIES, Way
from tests.engines.small import SMALL, TRANSFORMERS

Arrays = dict[str, Array]
Shapes = list[list[int]]


def ask(function: str, out: Path, **arguments: Any) -> Arrays:
    """Run one of the functions in a new process and return its arrays."""
    command = [sys.executable, "-m", "tests.engines.torch_side", function, str(out)]
    done = subprocess.run(
        [*command, json.dumps(arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(out) as file:
        return dict(file)


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def random_state(units: tuple[Unit, ...]) -> State:
    """Weights with BatchNorms and biases that are not those of a fresh start.

    The last norm or scale of a residual block is small, so that deep networks stay finite.
    """
    generator = np.random.default_rng(11)
    state: State = {}
    for unit in units:
        main = [layer for layer in unit.layers if ".downsample." not in layer.name]
        for layer in unit.layers:
            last = layer is main[-1] and _residual(unit)
            for name, shape in layer.tensors.items():
                values = generator.standard_normal(shape, dtype=np.float32)
                leaf = name.rsplit(".", 1)[-1]
                if layer.op in ("conv", "dense") and leaf.endswith("weight"):
                    state[name] = values * np.float32((1.6 / np.prod(shape[1:])) ** 0.5)
                elif leaf in ("weight", "running_var") or layer.op == "scale":
                    scale = np.float32(0.3 if last and leaf != "running_var" else 1)
                    state[name] = scale * (np.float32(0.9) + np.float32(0.1) * np.abs(values))
                else:
                    state[name] = np.float32(0.1) * values
    return state


def _residual(unit: Unit) -> bool:
    if unit.body is None:
        return unit.kind in ("basic", "bottleneck", "inverted")
    return any(node.op == "add" for node in unit.body.nodes)


def labelled(count: int, side: int, classes: int) -> tuple[Array, Labels]:
    """Images of noise whose colour tells the class."""
    labels = np.arange(count, dtype=np.int64) % classes
    colour = np.eye(classes, 3, dtype=np.float32)[labels]
    return noise(count, 3, side, side, seed=7) + colour[:, :, None, None], labels


GRADIENT_OF = np.array([0, 1, 2, 0])  # a class an image

# Learning rates at which 20 steps learn, and rounding does not grow. An untrained trunk's features
# are around 30, so that the head's plain gradients are large.
RATES = {
    ("head", "adamw"): 1e-3,
    ("head", "sgd"): 1e-5,
    ("stage4", "adamw"): 1e-4,
    ("stage4", "sgd"): 1e-3,
}


def trajectory(
    network: Network, cut: str, optimizer: str, steps: int, rate: float = 0, side: int = 96
) -> list[float]:
    """Losses of the first steps, over four batches in turn, with a rate that changes."""
    network.cut_at(resolve_cut(network.units, cut))
    network.prepare(Update(optimizer=optimizer, label_smoothing=0.1))
    # The last stage sees 3 × 3 pixels: a BatchNorm over fewer values amplifies rounding so much
    # that PyTorch's own algorithms for a convolution part after 20 steps.
    images, labels = labelled(32, side, 3)
    rate = rate or RATES[cut, optimizer]
    losses = []
    for step in range(steps):
        part = slice(8 * (step % 4), 8 * (step % 4) + 8)
        x = network.embed(images[part])
        rates = dict.fromkeys(tail_stages(network.units, network.cut), rate * (1 - step / 40))
        losses.append(network.step(x, labels[part], rates))
    return losses


def evaluate(network: Network, shapes: Shapes, cuts: list[int]) -> Arrays:
    """Logits, and trunk features at some cuts, of images of several sizes."""
    result = {}
    for shape in shapes:
        images, size = noise(*shape), f"{shape[2]}x{shape[3]}"
        for cut in cuts:
            network.cut_at(cut)
            result[f"features {cut} {size}"] = network.embed(images)
        result[f"logits {size}"] = network.logits(network.embed(images))
    return result


def small(name: str) -> Architecture:
    """Return a family in small."""
    return {**SMALL, **TRANSFORMERS}[name]


def followed(engine: str, folder: Path) -> Arrays:
    """What the recipe finds in a folder of photos, one way deeper included, whether it pays or not.

    One fold judges it, and resnet18 has an untrained trunk.
    """
    with (
        mock.patch.dict(QUALITIES, {"good": (Way(1 / 4, 1e-4),)}),
        mock.patch.object(deeper, "JUDGED", 1),
        mock.patch.object(Verdict, "pays", True),
    ):
        net = load("resnet18", weights=None, engine=engine, precision="fp32", seed=5)
        model = net.with_head(sorted(place.name for place in folder.iterdir()))
        head = model.fit(folder, quality="head", cache=False)
        run = model.fit(folder, cache=False)
    assert head.estimate
    assert run.estimate
    rows = [
        [told.accuracy, told.log_loss, temperature, told.decay]
        for told, temperature in (
            (head.estimate, head.temperature), (run.estimate, run.temperature),
        )
    ]  # fmt: skip
    answers = model.predict(sorted(folder.rglob("*.png")), top=1)
    losses = [record.train_loss for record in run.records]
    return {
        "estimates": np.array(rows),
        "losses": np.array(losses),
        "probabilities": np.array([answer.probability for answer in answers]),
    }


# --- what `ask` can name ------------------------------------------------------------------------


def parity(name: str, shapes: Shapes, cuts: list[int]) -> Arrays:
    from pyflux_transfer.engines.torch import network as engine

    network = engine.build(Plan(architecture(name), seed=None))
    network.load_state(random_state(network.units))
    return evaluate(network, shapes, cuts)


def gradients(name: str) -> Arrays:
    """What enters each unit of a family in small, and the logits' gradients there."""
    from pyflux_transfer.engines.torch import network as engine

    network = engine.build(Plan(small(name), Head(3), seed=5))
    side = small(name).preprocessing.crop
    x, result = noise(4, 3, side, side), {}
    for index in range(len(network.units)):
        result[f"input {index}"] = x
        result[f"gradient {index}"] = network.logit_gradient(x, GRADIENT_OF, index)
        x = network.apply(x, index, index + 1)
    return result


def headed(name: str, head: dict[str, Any], seed: int, shape: list[int]) -> Arrays:
    """Logits of a random start behind a head."""
    from pyflux_transfer.engines.torch import network as engine

    network = engine.build(Plan(architecture(name), Head(**head), seed=seed))
    return {"logits": network.logits(network.embed(noise(*shape)))}


def train(cut: str, optimizer: str, steps: int) -> Arrays:
    """A trajectory on resnet18, and the weights and optimizer state after it."""
    from pyflux_transfer.engines.torch import network as engine

    network = engine.build(Plan(architecture("resnet18"), Head(3), seed=5))
    losses = trajectory(network, cut, optimizer, steps)
    memory = {f"memory/{name}": value for name, value in network.optimizer_state().items()}
    return {"losses": np.array(losses), **network.state(), **memory}


def train_small(name: str, cut: str, steps: int, rate: float, side: int) -> Arrays:
    """A trajectory of a family in small."""
    from pyflux_transfer.engines.torch import network as engine

    network = engine.build(Plan(small(name), Head(3), seed=5))
    return {"losses": np.array(trajectory(network, cut, "adamw", steps, rate, side))}


def predict(state: str, name: str, classes: int, shape: list[int]) -> Arrays:
    """Logits of weights from a file."""
    from pyflux_transfer.engines.torch import network as engine

    network = engine.build(Plan(architecture(name), Head(classes), seed=None))
    with np.load(state) as file:
        network.load_state({key: file[key] for key in tensors(network.units)})
    return {"logits": network.logits(network.embed(noise(*shape)))}


def published(state: str, name: str, shape: list[int]) -> Arrays:
    """Logits of weights from a file by the published definition, loaded by name."""
    import torch

    from tests.engines.reference import reference

    model = reference(name)
    with np.load(state) as file:
        weights = {key: torch.from_numpy(file[key]) for key in file.files}
    lacking = model.load_state_dict(weights, strict=False, assign=True)
    assert not lacking.unexpected_keys
    assert all("num_batches_tracked" in key for key in lacking.missing_keys)
    with torch.no_grad():
        return {"logits": model(torch.from_numpy(noise(*shape))).numpy()}


def recipe(folder: str) -> Arrays:
    """What `followed` finds."""
    return followed("torch", Path(folder))


def opened(bundles: list[str], photos: str, shape: list[int]) -> Arrays:
    """Probabilities of photos from a file of bytes, by each of some bundles."""
    images = np.fromfile(photos, np.uint8).reshape(shape)
    found = {}
    for path in bundles:
        model = load(path, engine="torch", precision="fp32")
        inputs = np.stack([prepare(image, model.preprocessing) for image in images])
        found[path] = probabilities(model.network, inputs, model.temperature)
    return found


if __name__ == "__main__":
    functions: dict[str, Callable[..., Arrays]] = {
        f.__name__: f
        for f in (parity, gradients, headed, train, train_small, predict, published, recipe, opened)
    }
    np.savez(sys.argv[2], **functions[sys.argv[1]](**json.loads(sys.argv[3])))  # type: ignore[arg-type]
