"""An image's numbers are the same whatever is computed beside it, and by however many threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pyflux_transfer.engines.base import Network, Plan, Precision
from pyflux_transfer.engines.torch.convolution import Geometry, has_bf16
from pyflux_transfer.engines.torch.network import build
from pyflux_transfer.engines.torch.same import keeps_bits
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.tensors import Array
from tests.engines.small import SMALL

# One network for each kind of unit, at a size where all of them have something to do.
NETWORKS = {
    **{name: (MODELS[name], 40) for name in ("resnet18", "resnext50_32x4d", "squeezenet1_1",
                                             "vgg11_bn")},
    "efficientnet_lite0": (MODELS["efficientnet_lite0"], 48),
    "convnext_tiny": (MODELS["convnext_tiny"], 40),
    "dinov2_vits14": (MODELS["dinov2_vits14"], 42),
    **{name: (row, row.preprocessing.crop) for name, row in SMALL.items()},
}  # fmt: skip


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def answers(network: Network, images: Array) -> tuple[Array, Array]:
    features = network.embed(images)
    return features, network.logits(features)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_alone_equals_the_image_among_others(name: str, precision: Precision) -> None:
    if precision == "bf16" and not has_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bfloat16")
    row, side = NETWORKS[name]
    plan = Plan(row, Head(5, hidden=(16,)), 0, precision)
    images = np.random.default_rng(1).standard_normal((11, 3, side, side), dtype=np.float32)
    found: list[tuple[Array, Array]] = []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        network = build(plan)  # what another has prepared must not be what makes them equal
        network.cut_at(len(network.units) - 4)
        for some in (slice(0, 1), slice(0, 11), slice(0, 2), slice(0, 7), slice(0, 5)):
            found.append(answers(network, np.ascontiguousarray(images[some])))
        last = answers(network, np.ascontiguousarray(images[::-1]))
        found.append((last[0][::-1], last[1][::-1]))
        with ThreadPoolExecutor(2) as pool:  # two batches at a time, as the service does
            parts = [np.ascontiguousarray(images[:3]), np.ascontiguousarray(images[:8])]
            found += pool.map(answers, [network] * 2, parts)
    features, logits = found[1]
    for one, other in found:
        np.testing.assert_array_equal(one, features[: len(one)])
        np.testing.assert_array_equal(other, logits[: len(other)])


def test_small_images_first_leave_no_layout_behind() -> None:
    """A layout belongs to the size it is used with, and to nothing that was computed before."""
    plan = Plan(MODELS["resnet18"], Head(5), 0, "fp32")
    images = np.random.default_rng(1).standard_normal((3, 3, 96, 96), dtype=np.float32)
    one, other = build(plan), build(plan)
    for network in (one, other):
        network.cut_at(len(network.units) - 1)
    one.embed(np.ascontiguousarray(images[:, :, :32, :32]))
    np.testing.assert_array_equal(one.embed(images), other.embed(images))


def test_a_geometry_alone_keeps_its_bits() -> None:
    alone = Geometry((1, 8, 6, 6), (16, 8, 3, 3), 1, (1, 1), "relu", False, torch.float32, "cpu", 1)
    assert alone == alone.alone
    assert keeps_bits(alone)
