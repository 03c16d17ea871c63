"""ConvNeXt (Liu et al. 2022), by torchvision's names."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.networks.blocks import dense
from pyflux_transfer.networks.tree import (
    IDENTITY,
    act,
    add,
    block,
    chain,
    conv,
    flat,
    layernorm,
    mean,
    scale,
)
from pyflux_transfer.networks.tree import dense as affine
from pyflux_transfer.networks.units import Unit


def convnext(depths: Sequence[int], widths: Sequence[int]) -> tuple[Unit, ...]:
    """ConvNeXt of four stages.

    The LayerNorm behind the mean is the last stage's: a new head keeps it.
    """
    units = [
        block(
            "features.0", "stem", 3, widths[0],
            conv("features.0.0", 3, widths[0], 4, stride=4, bias=True),
            layernorm("features.0.1", widths[0]),
        )
    ]  # fmt: skip
    before = widths[0]
    for index, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        stage, place = f"stage{index + 1}", 2 * index + 1
        if index:
            units.append(_halved(f"features.{place - 1}", stage, before, width))
        units += [_block(f"features.{place}.{i}", stage, width) for i in range(depth)]
        before = width
    last = (mean(), layernorm("classifier.0", before), flat())
    units.append(block("classifier.0", stage, before, before, *last, ends=2))
    return (*units, dense("classifier.2", before, 1000))


def _halved(name: str, stage: str, inputs: int, outputs: int) -> Unit:
    return block(
        name, stage, inputs, outputs,
        layernorm(f"{name}.0", inputs),
        conv(f"{name}.1", inputs, outputs, 2, stride=2, bias=True),
    )  # fmt: skip


def _block(name: str, stage: str, width: int) -> Unit:
    """Depthwise 7×7, LayerNorm, two dense layers at each place, a scale, and a shortcut."""
    body = chain(
        conv(f"{name}.block.0", width, width, 7, padding=3, groups=width, bias=True),
        layernorm(f"{name}.block.2", width),
        affine(f"{name}.block.3", width, 4 * width),
        act("gelu"),
        affine(f"{name}.block.5", 4 * width, width),
        scale(f"{name}.layer_scale", width, 1, 1),
    )
    return block(name, stage, width, width, add(IDENTITY, body))
