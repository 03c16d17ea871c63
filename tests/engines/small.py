"""Families in small: as they are wired, but narrow and shallow, for tests of what engines do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pyflux_transfer.networks.catalog import Architecture
from pyflux_transfer.networks.families import (
    convnext,
    densenet,
    efficientnet,
    inception,
    mobilenet_v3,
    vit,
)
from pyflux_transfer.networks.families.efficientnet import Row
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tree import Node, leaves
from pyflux_transfer.networks.units import Layer, Option, Unit
from pyflux_transfer.networks.weights.table import Weights


def narrowed(units: tuple[Unit, ...], by: int) -> tuple[Unit, ...]:
    """Divide all counts of channels, but for those of the images and the classes."""
    return tuple(_unit(unit, by) for unit in units)


def _unit(unit: Unit, by: int) -> Unit:
    options: dict[str, Option] = {
        name: _width(int(value), by) if name in ("in", "mid", "out") else value
        for name, value in unit.options.items()
    }
    if unit.body is None:
        layers = tuple(_layer(layer, by) for layer in unit.layers)
        return replace(unit, options=options, layers=layers)
    body = _node(unit.body, by)
    return replace(unit, options=options, layers=tuple(leaves(body)), body=body)


def _node(node: Node, by: int) -> Node:
    layer = _layer(node.layer, by) if node.layer else None
    return replace(node, layer=layer, nodes=tuple(_node(inner, by) for inner in node.nodes))


def _layer(layer: Layer, by: int) -> Layer:
    channels, rest = (2, layer.shape[2:]) if layer.op in ("conv", "dense") else (1, ())
    widths = (_width(width, by) for width in layer.shape[:channels])
    return replace(layer, shape=(*widths, *rest))


def _width(width: int, by: int) -> int:
    if width in (3, 1000):
        return width
    assert width % by == 0, width
    return width // by


def _small(name: str, side: int, make: Callable[[], tuple[Unit, ...]]) -> Architecture:
    image = Weights(preprocessing=Preprocessing(resize=side, crop=side))
    parameters = sum(unit.parameters for unit in make())
    return Architecture(f"small_{name}", make, parameters, None, (image,))


_EFFICIENT = (
    Row(1, 3, 1, 8, 8, 2, fused=True),
    Row(4, 3, 2, 8, 16, 2, fused=True),
    Row(1, 3, 1, 16, 16, 1),
    Row(4, 5, 2, 16, 24, 2),
)
_MOBILE = (
    mobilenet_v3.Row(3, 16, 16, True, "relu", 2),
    mobilenet_v3.Row(3, 32, 24, False, "relu"),
    mobilenet_v3.Row(5, 48, 24, True, "hardswish"),
    mobilenet_v3.Row(5, 48, 32, True, "hardswish", 2),
)

_MADE: tuple[tuple[str, int, Callable[[], tuple[Unit, ...]]], ...] = (
    ("efficientnet", 32, lambda: efficientnet.units_of(_EFFICIENT, 32, 0.2, 1e-3)),
    ("mobilenet_v3", 32, lambda: mobilenet_v3.mobilenet_v3(_MOBILE, 24)),
    ("densenet", 32, lambda: densenet.densenet(8, (2, 3, 2), 16)),
    ("googlenet", 40, lambda: narrowed(inception.googlenet(), 8)),
    ("inception_v3", 79, lambda: narrowed(inception.inception_v3(), 8)),
)

# Their images are of a size that leaves all units something to do.
SMALL = {name: _small(name, side, make) for name, side, make in _MADE}

_TRANSFORMERS: tuple[tuple[str, int, Callable[[], tuple[Unit, ...]]], ...] = (
    ("convnext", 64, lambda: convnext.convnext((1, 1, 2, 1), (8, 12, 16, 24))),
    # Images of the very size that the positions were learnt for, and of another.
    ("vit", 24, lambda: vit.vit(8, 32, 4, 4, side=24)),
    ("dinov2", 28, lambda: vit.dinov2(32, 4, 4, side=42)),
)
TRANSFORMERS = {name: _small(name, side, make) for name, side, make in _TRANSFORMERS}
