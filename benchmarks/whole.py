"""One epoch of the whole network: our steps, and the same loop in plain PyTorch, batch by batch.

All sides see the same photos as arrays, start from the same weights, take the same batches and
steps of AdamW, and leave the statistics of BatchNorm as they are. They take turns at each batch, so
that whatever else the machine does meets all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import nn

from benchmarks import measure, networks
from pyflux_transfer.engines.base import Plan, Precision, Update, tail_stages
from pyflux_transfer.engines.torch.convolution import has_bf16
from pyflux_transfer.engines.torch.network import build
from pyflux_transfer.networks.catalog import MODELS

RATE = 1e-5
Step = Callable[[NDArray[np.float32], NDArray[np.int64]], float]  # images, labels → loss


def ours(architecture: str, weights: Path, precision: Precision) -> Step:
    """Return a step of the package's."""
    network = build(Plan(MODELS[architecture], seed=None, precision=precision, device="cpu"))
    network.load_state(load_file(weights))
    network.prepare(Update(freeze_bn=True))
    rates = dict.fromkeys(tail_stages(network.units, 0), RATE)
    return lambda images, labels: network.step(images, labels, rates)


def plain(architecture: str, weights: Path) -> Step:
    """Return a step as a tutorial has it, in float32."""
    network: Any = networks.eager(architecture, weights)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    return lambda images, labels: _step(network, optimizer, torch.from_numpy(images), labels)


def autocast(architecture: str, weights: Path) -> Step:
    """Return a step of a careful user's: bfloat16 by autocast, images channels last."""
    network: Any = networks.eager(architecture, weights).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)

    def step(images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        x = torch.from_numpy(images).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            return _step(network, optimizer, x, labels)

    return step


def _step(
    network: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, labels: Any
) -> float:
    loss = F.cross_entropy(network(x), torch.from_numpy(labels))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def main(photos: str, architecture: str, weights: str, batch: int, count: int) -> None:
    """Report seconds of the wall and of processors, and the last loss, of each side."""
    file = Path(weights)
    sides = {"fp32": ours(architecture, file, "fp32"), "plain": plain(architecture, file)}
    if has_bf16(torch.device("cpu")):
        sides["bf16"] = ours(architecture, file, "bf16")
        sides["autocast"] = autocast(architecture, file)
    images = np.load(photos)[:count]
    labels = np.arange(len(images), dtype=np.int64) % 2
    wall, processors = (dict.fromkeys(sides, 0.0) for _ in range(2))
    losses: dict[str, float] = {}
    for step in sides.values():  # what is prepared once
        step(images[:batch], labels[:batch])
    for at in range(0, len(images), batch):
        x, y = images[at : at + batch], labels[at : at + batch]
        for name, step in sides.items():
            begun = time.perf_counter(), time.process_time()
            losses[name] = step(x, y)
            wall[name] += time.perf_counter() - begun[0]
            processors[name] += time.process_time() - begun[1]
    measure.finish(images=len(images), wall=wall, processors=processors, losses=losses)


if __name__ == "__main__":
    main(**measure.arguments())
