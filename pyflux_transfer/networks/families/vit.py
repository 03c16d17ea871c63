"""Vision transformers: ViT (Dosovitskiy et al. 2020) by torchvision's names, DINOv2 by Meta's."""

from __future__ import annotations

from collections.abc import Callable

from pyflux_transfer.networks.blocks import dense
from pyflux_transfer.networks.tree import (
    IDENTITY,
    Node,
    act,
    add,
    attend,
    block,
    chain,
    concat,
    conv,
    embed,
    first,
    layernorm,
    rest,
    scale,
)
from pyflux_transfer.networks.tree import dense as affine
from pyflux_transfer.networks.units import Unit

_STAGES = 4  # runs of blocks that a cut can name


def vit(patch: int, width: int, depth: int, heads: int, side: int = 224) -> tuple[Unit, ...]:
    """ViT with a class token, made for images of `side` × `side`.

    Images of other sizes have their positions interpolated as torchvision's
    `interpolate_embeddings` does.
    """
    tokens = embed("class_token", "encoder.pos_embedding", side // patch, width, aligned=True)
    stem = block(
        "conv_proj", "stem", 3, width,
        conv("conv_proj", 3, width, patch, stride=patch, bias=True),
        tokens, ends=3, multiple=patch,
    )  # fmt: skip

    def layer(index: int) -> tuple[str, Node]:
        name = f"encoder.layers.encoder_layer_{index}"
        attention = chain(
            layernorm(f"{name}.ln_1", width),
            affine(f"{name}.self_attention.in_proj", width, 3 * width, joint="_"),
            attend(heads),
            affine(f"{name}.self_attention.out_proj", width, width),
        )
        mlp = chain(
            layernorm(f"{name}.ln_2", width),
            affine(f"{name}.mlp.0", width, 4 * width),
            act("gelu"),
            affine(f"{name}.mlp.3", 4 * width, width),
        )
        return name, chain(add(IDENTITY, attention), add(IDENTITY, mlp))

    last = block(
        "encoder.ln", f"stage{_STAGES}", width, width,
        layernorm("encoder.ln", width), first(), axes=3, ends=2,
    )  # fmt: skip
    return (stem, *_layers(width, depth, layer), last, dense("heads.head", width, 1000))


def dinov2(width: int, depth: int, heads: int, side: int = 518) -> tuple[Unit, ...]:
    """DINOv2 without registers (Oquab et al. 2023), patches of 14 × 14.

    Its features are the class token beside the mean of the patches' tokens: what Meta's linear
    evaluation takes, so that its published linear heads fit. Positions are interpolated as Meta's
    code does.
    """
    patch = 14
    stem = block(
        "patch_embed", "stem", 3, width,
        conv("patch_embed.proj", 3, width, patch, stride=patch, bias=True),
        embed("cls_token", "pos_embed", side // patch, width, offset=0.1),
        ends=3, multiple=patch,
    )  # fmt: skip

    def layer(index: int) -> tuple[str, Node]:
        name = f"blocks.{index}"
        attention = chain(
            layernorm(f"{name}.norm1", width),
            affine(f"{name}.attn.qkv", width, 3 * width),
            attend(heads),
            affine(f"{name}.attn.proj", width, width),
            scale(f"{name}.ls1.gamma", width),
        )
        mlp = chain(
            layernorm(f"{name}.norm2", width),
            affine(f"{name}.mlp.fc1", width, 4 * width),
            act("gelu"),
            affine(f"{name}.mlp.fc2", 4 * width, width),
            scale(f"{name}.ls2.gamma", width),
        )
        return name, chain(add(IDENTITY, attention), add(IDENTITY, mlp))

    last = block(
        "norm", f"stage{_STAGES}", width, 2 * width,
        layernorm("norm", width), concat(first(), rest()), axes=3, ends=2,
    )  # fmt: skip
    return (stem, *_layers(width, depth, layer), last, dense("linear_head", 2 * width, 1000))


def _layers(width: int, depth: int, layer: Callable[[int], tuple[str, Node]]) -> list[Unit]:
    """Return a unit for each layer, in stages of equal length."""
    units = []
    for index in range(depth):
        name, body = layer(index)
        stage = f"stage{1 + index * _STAGES // depth}"
        units.append(block(name, stage, width, width, body, axes=3, ends=3))
    return units
