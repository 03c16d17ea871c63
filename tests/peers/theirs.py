"""torchvision's and timm's own networks with seeded weights: the other side of `test_networks`.

    python -m tests.peers.theirs

runs in the environment of the peers, which has no PyFlux Transfer. For each line of JSON on stdin,
`{"name": …, "out": FILE.npz}`, it writes the networks' logits and answers with a line: names and
shapes of the tensors that the published network has, or its error.
"""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from torch import Tensor, nn
from torchvision.models.vision_transformer import interpolate_embeddings

from tests.engines.seeded import noise, seeded

Named = dict[str, Tensor]

# Two sizes of images a row, the published one where an architecture asks for it.
_SIDES = {"alexnet": (72, 95), "inception_v3": (299, 107), "efficientnet_lite0": (224, 97)}
_VIT, _DINO = (224, 160), (518, 224)

# Rows of which timm's network computes the same, given the same tensors in the same order. The
# others differ there in a constant (the eps of MobileNetV3's norms) or in their layers (VGG's
# classifier is a convolution).
_TIMM = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "wide_resnet50_2": "wide_resnet50_2",
    "resnext50_32x4d": "resnext50_32x4d",
    "mobilenet_v2": "mobilenetv2_100",
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_b4": "efficientnet_b4",
    "densenet121": "densenet121",
    "densenet161": "densenet161",
    "densenet169": "densenet169",
    "densenet201": "densenet201",
    "inception_v3": "inception_v3",
    "convnext_tiny": "convnext_tiny",
    "convnext_small": "convnext_small",
    "convnext_base": "convnext_base",
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_l_32": "vit_large_patch32_224",
    "dinov2_vits14": "vit_small_patch14_dinov2",
    "dinov2_vitb14": "vit_base_patch14_dinov2",
}


# Our name → torchvision's, and what makes it the same network.
_OURS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in torchvision.models.list_models(torchvision.models)},
    "vit_b_16_384": ("vit_b_16", {"image_size": 384}),
    "vit_l_16_512": ("vit_l_16", {"image_size": 512}),
}


def sides(name: str) -> tuple[int, int]:
    """Sizes of the images a row is compared at."""
    if name.startswith("vit_"):
        own = name.split("_")[3:]
        return (int(own[0]), 160) if own else _VIT
    return _DINO if name.startswith("dinov2_") else _SIDES.get(name, (96, 129))


def computed(name: str, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, Tensor]]:
    """Yield "library side" and logits; `shapes` are those of our tensors, in our order."""
    for side in sides(name):
        x = torch.from_numpy(noise(2, 3, side, side))
        with torch.inference_mode():
            if name in _OURS:
                yield f"torchvision {side}", _torchvision(name, side)(x)
            if name in _TIMM:
                yield f"timm {side}", _timm(name, side, shapes)(x)


def published(name: str) -> Named:
    """Tensors of a row's own network, without the counters and the heads used in training alone."""
    if name in _OURS:
        return _counted(_made(name, "meta"))
    return _counted(timm.create_model(_TIMM[name])) if name.startswith("dinov2_") else {}


def _made(name: str, device: str = "cpu", **more: Any) -> nn.Module:
    if name in ("googlenet", "inception_v3"):
        more["init_weights"] = False
    known, fixed = _OURS[name]
    with torch.device(device):
        return torchvision.models.get_model(known, weights=None, **{**fixed, **more})


def _torchvision(name: str, side: int) -> nn.Module:
    state = _tensors(name, {n: tuple(v.shape) for n, v in published(name).items()})
    more: dict[str, Any] = {}
    if name.startswith("vit_"):
        more = {"image_size": side}
        state = _interpolated(name, side, state)
    if name in ("googlenet", "inception_v3"):
        more = {"aux_logits": False}
    return _loaded(_made(name, **more), state)


def _timm(name: str, side: int, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    more = {"img_size": side} if name.startswith(("vit_", "dinov2_")) else {}
    if not name.startswith("dinov2_"):
        more["num_classes"] = 1000  # some of timm's weights come without a head
    ours = _tensors(name, {n: tuple(v.shape) for n, v in published(name).items()} or shapes)
    if name.startswith("vit_"):
        ours = _interpolated(name, side, ours)
    head: Named = {}
    if name.startswith("dinov2_"):  # whose head is none of the network's
        ours["pos_embed"] = _meta(ours["pos_embed"], side // 14)
        head = _tensors(name, {n: s for n, s in shapes.items() if n.startswith("linear_head.")})
    network = timm.create_model(_TIMM[name], **more)
    theirs = sorted(_counted(network), key=_rank)
    wanted = sorted(ours, key=_rank)
    pairs = zip(theirs, wanted, strict=True)
    shapes_there = {n: v.shape for n, v in network.state_dict().items()}
    body = _loaded(network, {n: ours[o].reshape(shapes_there[n]) for n, o in pairs})
    return _Linear(body, *head.values()) if head else body


class _Linear(nn.Module):
    """Meta's linear evaluation: a layer on the class token beside the patches' mean."""

    def __init__(self, body: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.body, self.weight, self.bias = body, weight, bias

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.body.forward_features(x)
        features = torch.cat((tokens[:, 0], tokens[:, 1:].mean(1)), 1)
        return F.linear(features, self.weight, self.bias)


def _rank(name: str) -> int:
    """Place a transformer's tokens ahead: definitions differ in where they list them."""
    return next((i for i, word in enumerate(("_token", "pos_embed")) if word in name), 2)


def _loaded(network: nn.Module, state: Named) -> nn.Module:
    lacking = network.load_state_dict(state, strict=False)
    assert not lacking.unexpected_keys, lacking
    assert all("num_batches_tracked" in key for key in lacking.missing_keys), lacking
    return network.eval()


def _interpolated(name: str, side: int, state: Named) -> Named:
    patch = int(name.split("_")[2])
    return dict(interpolate_embeddings(side, patch, OrderedDict(state)))


def _meta(positions: Tensor, count: int) -> Tensor:
    """DINOv2's `interpolate_pos_encoding` (dinov2/models/vision_transformer.py)."""
    token, places = positions[:, :1], positions[:, 1:]
    side = math.isqrt(places.shape[1])
    if side == count:
        return positions
    grid = places.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factor = (count + 0.1) / side
    grid = F.interpolate(grid, mode="bicubic", antialias=False, scale_factor=(factor, factor))
    return torch.cat((token, grid.permute(0, 2, 3, 1).flatten(1, 2)), 1)


def _tensors(network: str, shapes: Mapping[str, tuple[int, ...]]) -> Named:
    return {name: torch.from_numpy(value) for name, value in seeded(network, shapes).items()}


def _counted(network: nn.Module) -> Named:
    skipped = ("aux1.", "aux2.", "AuxLogits.")
    named = network.state_dict().items()
    return {n: v for n, v in named if not n.startswith(skipped) and "num_batches_tracked" not in n}


def main() -> None:
    """Answer line by line until stdin ends."""
    torch.set_num_threads(2)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _answered(asked)
        except Exception:  # the next row may fare better
            answer = {"error": traceback.format_exc()}
        print(json.dumps({"name": asked["name"], **answer}), flush=True)


def _answered(asked: dict[str, Any]) -> dict[str, Any]:
    name, shapes = asked["name"], {n: tuple(s) for n, s in asked["shapes"].items()}
    found = {what: logits.numpy() for what, logits in computed(name, shapes)}
    np.savez(asked["out"], **found)
    return {"tensors": {n: list(v.shape) for n, v in published(name).items()}}


if __name__ == "__main__":
    main()
