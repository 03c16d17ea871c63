"""The architectures as published, written apart from the package, to compare it with.

The module names are those of torchvision's definitions (resnet.py, vgg.py, alexnet.py,
mobilenetv2.py, squeezenet.py), so `state_dict` has the published names. EfficientNet-Lite0 is the
definition of the package that carries its weights, with its names and its padding, which is fixed
ahead for images of 224 × 224.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

relu = partial(F.relu, inplace=True)  # as published: saves memory and time

# --- ResNet -------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, groups: int, base: int) -> None:
        super().__init__()
        assert (groups, base) == (1, 64)
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, groups: int, base: int) -> None:
        super().__init__()
        width = int(planes * (base / 64.0)) * groups
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.downsample = downsample(inputs, planes * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = relu(self.bn1(self.conv1(x)))
        out = relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return relu(out + (x if self.downsample is None else self.downsample(x)))


def downsample(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        groups: int = 1,
        base: int = 64,
    ) -> None:
        super().__init__()
        self.inputs = 64
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        make = partial(self._layer, block, groups, base)
        self.layer1 = make(64, layers[0], 1)
        self.layer2 = make(128, layers[1], 2)
        self.layer3 = make(256, layers[2], 2)
        self.layer4 = make(512, layers[3], 2)
        self.fc = nn.Linear(512 * block.expansion, 1000)

    def _layer(
        self, block: type[BasicBlock] | type[Bottleneck], groups: int, base: int,
        planes: int, blocks: int, stride: int,
    ) -> nn.Sequential:  # fmt: skip
        made = []
        for index in range(blocks):
            made.append(block(self.inputs, planes, stride if index == 0 else 1, groups, base))
            self.inputs = planes * block.expansion
        return nn.Sequential(*made)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


# --- VGG, AlexNet, SqueezeNet -------------------------------------------------------------------

_VGG = {
    11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
    13: "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


class VGG(nn.Module):
    def __init__(self, depth: int, norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for token in _VGG[depth].split():
            if token == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers.append(nn.Conv2d(inputs, int(token), 3, padding=1))
            if norm:
                layers.append(nn.BatchNorm2d(int(token)))
            layers.append(nn.ReLU())
            inputs = int(token)
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 1000),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class AlexNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
            nn.Linear(4096, 1000),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self, version: str) -> None:
        super().__init__()
        pool = partial(nn.MaxPool2d, 3, 2, ceil_mode=True)
        if version == "1_0":
            self.features = nn.Sequential(
                nn.Conv2d(3, 96, 7, 2), nn.ReLU(), pool(),
                Fire(96, 16, 64), Fire(128, 16, 64), Fire(128, 32, 128), pool(),
                Fire(256, 32, 128), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256),
                pool(), Fire(512, 64, 256),
            )  # fmt: skip
        else:
            self.features = nn.Sequential(
                nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(),
                Fire(64, 16, 64), Fire(128, 16, 64), pool(),
                Fire(128, 32, 128), Fire(256, 32, 128), pool(),
                Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
            )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


# --- MobileNetV2 --------------------------------------------------------------------------------


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    padding = (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[nn.Module] = [] if expand == 1 else [conv_norm(inputs, hidden, 1, 1, 1)]
        layers.append(conv_norm(hidden, hidden, 3, stride, hidden))
        layers += [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        setting = [
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
            (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        ]  # fmt: skip
        features: list[nn.Module] = [conv_norm(3, 32, 3, 2, 1)]
        inputs = 32
        for expand, outputs, repeats, stride in setting:
            for index in range(repeats):
                block = InvertedResidual(inputs, outputs, stride if index == 0 else 1, expand)
                features.append(block)
                inputs = outputs
        features.append(conv_norm(320, 1280, 1, 1, 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


# --- EfficientNet-Lite0 -------------------------------------------------------------------------


class StaticSameConv2d(nn.Conv2d):
    """TensorFlow's SAME padding, fixed when the layer is made for images of `size`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, size: int
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        need = max((-(-size // stride) - 1) * stride + (kernel - 1) + 1 - size, 0)
        before, after = need // 2, need - need // 2
        self.static_padding = nn.ZeroPad2d((before, after, before, after))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.static_padding(x))


_lite_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


class MBConvBlock(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expand: int, size: int
    ) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = expand != 1
        if self.expand:
            self._expand_conv = StaticSameConv2d(inputs, hidden, 1, 1, 1, size)
            self._bn0 = _lite_norm(hidden)
        self._depthwise_conv = StaticSameConv2d(hidden, hidden, kernel, stride, hidden, size)
        self._bn1 = _lite_norm(hidden)
        self._project_conv = StaticSameConv2d(hidden, outputs, 1, 1, 1, -(-size // stride))
        self._bn2 = _lite_norm(outputs)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, inputs: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._expand_conv(inputs))) if self.expand else inputs
        x = F.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + inputs if self.skip else x


class EfficientNetLite0(nn.Module):
    # the published block strings: repeats, kernel, stride, expansion, inputs, outputs
    BLOCKS = (
        "r1_k3_s11_e1_i32_o16", "r2_k3_s22_e6_i16_o24", "r2_k5_s22_e6_i24_o40",
        "r3_k3_s22_e6_i40_o80", "r3_k5_s11_e6_i80_o112", "r4_k5_s22_e6_i112_o192",
        "r1_k3_s11_e6_i192_o320",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        size = 112
        self._conv_stem = StaticSameConv2d(3, 32, 3, 2, 1, 224)
        self._bn0 = _lite_norm(32)
        blocks = []
        for row in self.BLOCKS:
            r, k, s, e, i, o = (part[1:] for part in row.split("_"))
            inputs, outputs, stride = int(i), int(o), int(s[0])
            for _ in range(int(r)):
                blocks.append(MBConvBlock(inputs, outputs, int(k), stride, int(e), size))
                size = -(-size // stride)
                inputs, stride = outputs, 1
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = StaticSameConv2d(320, 1280, 1, 1, 1, size)
        self._bn1 = _lite_norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        return self._fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


REFERENCES: dict[str, Callable[[], nn.Module]] = {
    "resnet18": partial(ResNet, BasicBlock, [2, 2, 2, 2]),
    "resnet34": partial(ResNet, BasicBlock, [3, 4, 6, 3]),
    "resnet50": partial(ResNet, Bottleneck, [3, 4, 6, 3]),
    "resnet101": partial(ResNet, Bottleneck, [3, 4, 23, 3]),
    "resnet152": partial(ResNet, Bottleneck, [3, 8, 36, 3]),
    "wide_resnet50_2": partial(ResNet, Bottleneck, [3, 4, 6, 3], base=128),
    "wide_resnet101_2": partial(ResNet, Bottleneck, [3, 4, 23, 3], base=128),
    "resnext50_32x4d": partial(ResNet, Bottleneck, [3, 4, 6, 3], groups=32, base=4),
    "resnext101_32x8d": partial(ResNet, Bottleneck, [3, 4, 23, 3], groups=32, base=8),
    "resnext101_64x4d": partial(ResNet, Bottleneck, [3, 4, 23, 3], groups=64, base=4),
    **{f"vgg{depth}": partial(VGG, depth, False) for depth in _VGG},
    **{f"vgg{depth}_bn": partial(VGG, depth, True) for depth in _VGG},
    "alexnet": AlexNet,
    "mobilenet_v2": MobileNetV2,
    "squeezenet1_0": partial(SqueezeNet, "1_0"),
    "squeezenet1_1": partial(SqueezeNet, "1_1"),
    "efficientnet_lite0": EfficientNetLite0,
}


def reference(name: str) -> nn.Module:
    """Make the published network, in evaluation mode, without drawing weights for it."""
    with torch.device("meta"):
        return REFERENCES[name]().eval()
