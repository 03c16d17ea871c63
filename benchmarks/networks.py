"""The networks of both sides: the same weights, ours through the package, the peer's plain PyTorch.

The peer's are the independent definitions that the tests compare the package with. Published
weights cannot be had without a network; these are drawn at random, and their BatchNorm statistics
taken from photos, so that values are as spread as in a trained network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from pyflux_transfer.data.preprocess import load
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.start import start
from tests.engines import reference

FORWARD_PASS_IMAGES = 48


def eager(architecture: str, weights: Path) -> Any:
    """Return the peer's network in evaluation mode, with a file's weights and its classes."""
    network: Any = reference.REFERENCES[architecture]()
    state = {name: torch.from_numpy(value) for name, value in load_file(weights).items()}
    network.fc = nn.Linear(network.fc.in_features, len(state["fc.bias"]))
    network.load_state_dict(state, strict=False)  # BatchNorm's counters are not kept
    return network.eval()


def write_weights(architecture: str, samples: list[Path], target: Path) -> Path:
    """Draw weights, let BatchNorm see some of the photos, and write a .safetensors file."""
    state = start(MODELS[architecture].units, seed=0)
    network: Any = reference.REFERENCES[architecture]()
    network.load_state_dict({n: torch.from_numpy(v) for n, v in state.items()}, strict=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of what it sees
    with torch.no_grad():
        network.train()(torch.from_numpy(images(samples[:FORWARD_PASS_IMAGES])))
    kept = network.state_dict()
    save_file({name: kept[name].numpy() for name in state}, target)
    return target


def images(paths: list[Path]) -> np.ndarray:
    """Return photos as the networks take them: (N, 3, 224, 224) float32."""
    return np.stack([load(path, Preprocessing()) for path in paths])


def flops(architecture: str) -> float:
    """Return the operations one image of 224 × 224 costs, forward; a multiply-add counts as two.

    Only convolutions and dense layers count.
    """
    total = 0.0

    def count(layer: Any, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        total += 2 * output.numel() * layer.weight[0].numel()

    network = reference.reference(architecture)  # without memory: nothing is computed
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    network(torch.empty(1, 3, 224, 224, device="meta"))
    return total
