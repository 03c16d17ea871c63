"""torchvision's or timm's network, eager or compiled: a process of `engines`, without ours."""

from __future__ import annotations

import json
import sys
from typing import Any

import timm
import torch
import torchvision

from benchmarks.clocks import shortest

SECONDS = 1.0
_TIMM = {
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "dinov2_vits14": "vit_small_patch14_dinov2",
    "dinov2_vitb14": "vit_base_patch14_dinov2",
}
_SIDES = {"inception_v3": 299, "efficientnet_v2_s": 384}


def network(name: str, side: int) -> Any:
    """Return the peer's network with random weights, in evaluation mode."""
    if name in _TIMM:
        more = {"img_size": side} if name.startswith("dinov2") else {}
        return timm.create_model(_TIMM[name], **more).eval()
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **more).eval()


def main(kind: str, name: str, *batches: str) -> None:
    """Print milliseconds an image by batch, by both clocks."""
    side = _SIDES.get(name, 224)
    run = network(name, side)
    if kind == "compiled":
        run = torch.compile(run, dynamic=False)
    found = {}
    with torch.inference_mode():
        for batch in batches:
            images = torch.randn(int(batch), 3, side, side)
            times = shortest(lambda x=images: run(x), SECONDS)
            found[batch] = [1000 * seconds / len(images) for seconds in times]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
