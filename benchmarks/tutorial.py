"""The peer of training: the published transfer learning tutorial's loop, as it stands.

Each epoch decodes and augments every photo, runs the whole network on it in plain float32, batch by
batch of 4, and validates; SGD with momentum 0.9 and a rate of 0.001 that falls to a tenth every 7
epochs; the best weights are kept. The transforms are torchvision's, written out over Pillow. Two
things are kinder to it than the original: the frozen part stays in evaluation mode, and the loader
has as many processes as there are cores.
"""

from __future__ import annotations

import copy
import random
import time
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks import measure, networks
from benchmarks.tutorial_transforms import center_crop, normalised, random_crop_and_flip

WORKERS = 2


class Photos(Dataset):  # type: ignore[type-arg]
    """torchvision's ImageFolder with the tutorial's transforms."""

    def __init__(self, folder: Path, augment: bool) -> None:
        self.classes = sorted(path.name for path in folder.iterdir())
        self.samples = [
            (path, label)
            for label, name in enumerate(self.classes)
            for path in sorted((folder / name).iterdir())
        ]
        self.transform = random_crop_and_flip if augment else center_crop

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        with Image.open(path) as image:
            return normalised(self.transform(image.convert("RGB"))), label


def run_epoch(
    network: nn.Module,
    loader: DataLoader[tuple[Tensor, int]],
    optimizer: torch.optim.Optimizer | None,
) -> float:
    """Train where there is an optimizer, else evaluate; return the accuracy."""
    criterion = nn.CrossEntropyLoss()
    correct = seen = 0
    for images, labels in loader:
        with torch.set_grad_enabled(optimizer is not None):
            outputs = network(images)
            loss = criterion(outputs, labels)
            if optimizer:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        correct += int((outputs.argmax(1) == labels).sum())
        seen += len(labels)
    return correct / seen


def main(
    folder: str,
    architecture: str,
    weights: str,
    stage: str | None,
    epochs: int,
    batch: int,
    out: str,
) -> None:
    """Train for `epochs`, the last layer and, where named, a stage; save the best weights."""
    torch.manual_seed(0)
    random.seed(0)
    data = {name: Photos(Path(folder) / name, name == "train") for name in ("train", "val")}
    loaders = {
        name: DataLoader(data[name], batch, shuffle=True, num_workers=WORKERS) for name in data
    }
    network = networks.eager(architecture, Path(weights)).requires_grad_(False)
    network.fc = nn.Linear(network.fc.in_features, len(data["train"].classes))
    trained = [network.fc] + ([getattr(network, stage)] if stage else [])
    for part in trained:
        part.requires_grad_(True)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.001, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    best, kept = 0.0, copy.deepcopy(network.state_dict())
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for part in trained:
            part.train()
        run_epoch(network, loaders["train"], optimizer)
        scheduler.step()
        network.eval()
        accuracy = run_epoch(network, loaders["val"], None)
        if accuracy > best:
            best, kept = accuracy, copy.deepcopy(network.state_dict())
        seconds.append(time.perf_counter() - start)
    torch.save(kept, out)
    measure.finish(accuracy=best, epoch_seconds=seconds)


if __name__ == "__main__":
    main(**measure.arguments())
