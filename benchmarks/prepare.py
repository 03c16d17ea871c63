"""Make what the rows work on, in a process of its own: the one that measures stays small."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks import ceiling, measure, networks, photos


def main(folder: str, large: int, train: int, valid: int) -> None:
    """Write photos, weights, a batch of images, and the ceilings."""
    place = Path(folder)
    photos.write_splits(place / "insects", train, valid)
    photos.write(place / "large", large, photos.LARGE, seed=2)
    samples = sorted((place / "insects" / "train").rglob("*.jpg"))
    for architecture in ("resnet50", "resnet18"):
        networks.write_weights(architecture, samples, place / f"{architecture}.safetensors")
    np.save(place / "images.npy", networks.images(sorted((place / "insects").rglob("*.jpg"))))
    measure.finish(
        ceiling={name: asdict(ceiling.ceiling(name)) for name in ("fp32", "bf16")},
        flops={name: networks.flops(name) for name in ("resnet50", "resnet18")},
    )


if __name__ == "__main__":
    main(**measure.arguments())
