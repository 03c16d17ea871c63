"""`python -m benchmarks.gpu`: ResNet-50 on a graphics card, images/s, ours against plain PyTorch.

Prediction and training of the whole network, with data that is on the host at the start and at the
end, as our interface has it. Where there is no card it runs on the processor, slowly.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from benchmarks import ceiling as ceilings
from benchmarks import measure, networks
from pyflux_transfer import engines, predict
from pyflux_transfer.engines.base import Network, Plan, Update
from pyflux_transfer.networks.catalog import architecture
from pyflux_transfer.networks.units import stages
from tests.engines import reference

NAME = "resnet50"
Call = Callable[[], object]


def ours(precision: str) -> Network:
    plan = Plan(architecture(NAME), None, 0, precision, "auto")  # type: ignore[arg-type]
    network = engines.build("torch", plan)
    network.cut_at(0)
    network.prepare(Update(optimizer="sgd"))
    return network


def plain(device: torch.device) -> torch.nn.Module:
    return reference.REFERENCES[NAME]().to(device, memory_format=torch.channels_last)


def prediction(device: torch.device, x: np.ndarray) -> dict[str, Call]:
    network = plain(device).eval()
    compiled = torch.compile(network)

    def run(model: torch.nn.Module, autocast: bool) -> np.ndarray:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, autocast):
            return model(torch.from_numpy(x).to(device)).float().softmax(1).cpu().numpy()

    return {
        "ours, fp32": partial(predict.probabilities, ours("fp32"), x),
        "ours, auto": partial(predict.probabilities, ours("auto"), x),
        "eager, fp32": partial(run, network, False),
        "eager, bf16 autocast": partial(run, network, True),
        "compiled, bf16 autocast": partial(run, compiled, True),
    }


def training(device: torch.device, x: np.ndarray, y: np.ndarray) -> dict[str, Call]:
    def steps(compiled: bool) -> Call:
        network = plain(device).train()
        model = torch.compile(network) if compiled else network
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

        def step() -> float:
            images, labels = (torch.from_numpy(a).to(device) for a in (x, y))
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    network = ours("fp32")
    rates = dict.fromkeys(stages(network.units), 1e-3)
    return {
        "ours, fp32": lambda: network.step(x, y, rates),
        "eager, fp32": steps(compiled=False),
        "compiled, fp32": steps(compiled=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each figure")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = torch.cuda.get_device_name() if device.type == "cuda" else "no card: the processor"
    of_card = device.type == "cuda"
    ceiling = {
        p: measure.products(p, device) if of_card else ceilings.ceiling(p).flops
        for p in ("fp32", "bf16")
    }
    print(card, {name: f"{value / 1e12:.2f} TFLOP/s" for name, value in ceiling.items()})
    rng = np.random.default_rng(0)
    x = rng.standard_normal((options.batch, 3, 224, 224), dtype=np.float32)
    y = rng.integers(1000, size=options.batch)
    cost = networks.flops(NAME)
    works = {"prediction": prediction(device, x), "training": training(device, x, y)}
    for work, calls in works.items():
        for name, call in calls.items():
            rate = options.batch / measure.best(call, seconds=options.seconds)
            of = "bf16" if "bf16" in name or "auto" in name else "fp32"
            share = rate * cost * (3 if work == "training" else 1) / ceiling[of]
            print(
                f"{work:11} {name:24} {rate:9.1f} images/s  {share:4.0%} of {of} ceiling",
                flush=True,
            )


if __name__ == "__main__":
    main()
