"""The kinds of units: each function describes one, with the names of its layers."""

from __future__ import annotations

from collections.abc import Sequence

from pyflux_transfer.networks.units import Layer, Option, Unit


def _conv(
    name: str, inputs: int, outputs: int, kernel: int, groups: int = 1, bias: bool = False
) -> Layer:
    return Layer(name, "conv", (outputs, inputs // groups, kernel, kernel), bias)


def _norm(name: str, channels: int) -> Layer:
    return Layer(name, "norm", (channels,), bias=True)


def _dense(name: str, inputs: int, outputs: int) -> Layer:
    return Layer(name, "dense", (outputs, inputs), bias=True)


def conv(
    name: str,
    stage: str,
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    norm: str | None = None,
    layer: str | None = None,
    stride: int = 1,
    padding: int | str = 0,
    bias: bool = False,
    activation: str = "relu",
    eps: float = 1e-5,
) -> Unit:
    """Convolution, BatchNorm where `norm` names one, activation; "same" is TensorFlow's padding."""
    layers = [_conv(layer or name, inputs, outputs, kernel, bias=bias)]
    if norm:
        layers.append(_norm(norm, outputs))
    options: dict[str, Option] = {
        "in": inputs,
        "out": outputs,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "bias": bias,
        "norm": norm is not None,
        "eps": eps,
        "activation": activation,
    }
    return Unit(name, "conv", stage, options, tuple(layers))


def maxpool(
    name: str, stage: str, kernel: int, stride: int, padding: int = 0, ceil: bool = False
) -> Unit:
    """Max pooling; `ceil` keeps a last window that hangs over the border."""
    options: dict[str, Option] = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "ceil": ceil,
    }
    return Unit(name, "maxpool", stage, options)


def avgpool(size: int, stage: str = "head") -> Unit:
    """Adaptive mean pooling to `size` × `size`."""
    return Unit("avgpool", "avgpool", stage, {"size": size})


def flatten() -> Unit:
    """(N, C, H, W) → (N, C·H·W)."""
    return Unit("flatten", "flatten", "head")


def dropout(name: str, p: float) -> Unit:
    """Zero a share `p` of the values in training."""
    return Unit(name, "dropout", "head", {"p": p})


def dense(name: str, inputs: int, outputs: int, activation: str = "none") -> Unit:
    """Affine layer and activation."""
    options: dict[str, Option] = {"in": inputs, "out": outputs, "activation": activation}
    return Unit(name, "dense", "head", options, (_dense(name, inputs, outputs),))


def basic(name: str, stage: str, inputs: int, outputs: int, stride: int) -> Unit:
    """Two 3×3 convolutions and a shortcut (He et al. 2015, ResNet-18 and -34)."""
    layers = [
        _conv(f"{name}.conv1", inputs, outputs, 3),
        _norm(f"{name}.bn1", outputs),
        _conv(f"{name}.conv2", outputs, outputs, 3),
        _norm(f"{name}.bn2", outputs),
    ]
    layers += _shortcut(name, inputs, outputs, stride)
    options: dict[str, Option] = {"in": inputs, "out": outputs, "stride": stride}
    return Unit(name, "basic", stage, options, tuple(layers))


def bottleneck(
    name: str, stage: str, inputs: int, mid: int, outputs: int, stride: int, groups: int
) -> Unit:
    """1×1, 3×3 (strided, grouped), 1×1 and a shortcut (ResNet v1.5, ResNeXt, Wide ResNet)."""
    layers = [
        _conv(f"{name}.conv1", inputs, mid, 1),
        _norm(f"{name}.bn1", mid),
        _conv(f"{name}.conv2", mid, mid, 3, groups),
        _norm(f"{name}.bn2", mid),
        _conv(f"{name}.conv3", mid, outputs, 1),
        _norm(f"{name}.bn3", outputs),
    ]
    layers += _shortcut(name, inputs, outputs, stride)
    options: dict[str, Option] = {
        "in": inputs,
        "mid": mid,
        "out": outputs,
        "stride": stride,
        "groups": groups,
    }
    return Unit(name, "bottleneck", stage, options, tuple(layers))


def _shortcut(name: str, inputs: int, outputs: int, stride: int) -> list[Layer]:
    if stride == 1 and inputs == outputs:
        return []
    down = f"{name}.downsample"
    return [_conv(f"{down}.0", inputs, outputs, 1), _norm(f"{down}.1", outputs)]


def fire(name: str, stage: str, inputs: int, squeeze: int, expand: int) -> Unit:
    """1×1 squeeze, then 1×1 and 3×3 expansions side by side (Iandola et al. 2016)."""
    layers = (
        _conv(f"{name}.squeeze", inputs, squeeze, 1, bias=True),
        _conv(f"{name}.expand1x1", squeeze, expand, 1, bias=True),
        _conv(f"{name}.expand3x3", squeeze, expand, 3, bias=True),
    )
    options: dict[str, Option] = {"in": inputs, "squeeze": squeeze, "expand": expand}
    return Unit(name, "fire", stage, options, layers)


def inverted(
    name: str,
    stage: str,
    inputs: int,
    outputs: int,
    *,
    kernel: int,
    stride: int,
    expand: int,
    same: bool,
    eps: float,
    leaves: Sequence[tuple[str, str]],
) -> Unit:
    """[1×1 expansion,] depthwise k×k, 1×1 projection, ReLU6 between (Sandler et al. 2018).

    `leaves` are the (convolution, norm) names of the two or three steps; `same` asks for
    TensorFlow's padding.
    """
    mid = inputs * expand
    shapes = [(inputs, mid, 1, 1), (mid, mid, kernel, mid), (mid, outputs, 1, 1)]
    layers: list[Layer] = []
    for (conv_name, norm_name), (i, o, k, g) in zip(leaves, shapes[-len(leaves) :], strict=True):
        layers += [_conv(f"{name}.{conv_name}", i, o, k, g), _norm(f"{name}.{norm_name}", o)]
    options: dict[str, Option] = {
        "in": inputs,
        "mid": mid,
        "out": outputs,
        "kernel": kernel,
        "stride": stride,
        "padding": "same" if same else kernel // 2,
        "eps": eps,
        "residual": stride == 1 and inputs == outputs,
    }
    return Unit(name, "inverted", stage, options, tuple(layers))
