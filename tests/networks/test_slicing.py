from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.slicing import chain_slice
from pyflux_transfer.networks.tensors import Array
from tests.engines import fake


@pytest.fixture
def network() -> fake.FakeNetwork:
    return fake.build(Plan(fake.TINY, seed=2))


@pytest.fixture
def images() -> Array:
    return np.random.default_rng(0).standard_normal((2, 3, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("at", [1, 3, -1, "stage1", "head"])
def test_two_slices_make_the_whole(at: int | str, network: fake.FakeNetwork, images: Array) -> None:
    first, second = chain_slice(network, slice(None, at)), chain_slice(network, slice(at, None))
    np.testing.assert_array_equal(second(first(images)), network._run(images, 0, 7))
    assert len(first) + len(second) == len(network.units)
    assert [*first.units, *second.units] == list(network.units)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (0, ["conv1"]),
        (-1, ["classifier.1"]),
        (slice(1, 3), ["conv2", "conv3"]),
        (slice("stage1", "head"), ["conv2", "conv3"]),
        (slice("stem", 2), ["conv1", "conv2"]),
        (slice("head", None), ["avgpool", "flatten", "classifier.0", "classifier.1"]),
        (slice(-2, None, 1), ["classifier.0", "classifier.1"]),
        (slice(5, 99), ["classifier.0", "classifier.1"]),
        ("stage2", ["conv3"]),
        ("head", ["avgpool", "flatten", "classifier.0", "classifier.1"]),
    ],
)
def test_what_a_key_means(key: Any, names: list[str], network: fake.FakeNetwork) -> None:
    assert [unit.name for unit in chain_slice(network, key).units] == names


def test_a_stage_of_several_units() -> None:
    class Network:
        units = MODELS["resnet18"].units
        cut = 0

    for name in ("stage2", "layer2"):
        found = chain_slice(Network(), name)  # type: ignore[arg-type]
        assert [unit.name for unit in found.units] == ["layer2.0", "layer2.1"]
    assert len(chain_slice(Network(), slice("layer2.1", "fc"))) == 7  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"inside the unit 'layer2.0'.*net.layers\['layer2.0.bn1'\]"
    ):
        chain_slice(Network(), "layer2.0.bn1")  # type: ignore[arg-type]


def test_a_slice_is_sliced_and_shows_the_numbers_of_the_network(
    network: fake.FakeNetwork,
) -> None:
    part = chain_slice(network, slice(1, None))
    assert [unit.name for unit in part["head"][-1].units] == ["classifier.1"]
    assert [unit.name for unit in part[0].units] == ["conv2"]
    lines = repr(part[:2]).splitlines()
    assert lines[0] == "Slice: units 1 to 2"
    assert lines[2].startswith("  1 conv2: conv(8 -> 12, kernel=1")


def test_slices_take_and_give_what_numpy_does(network: fake.FakeNetwork, images: Array) -> None:
    part = chain_slice(network, slice(None, 3))
    turned = images.transpose(0, 1, 3, 2)  # not contiguous
    np.testing.assert_array_equal(part(turned), part(np.ascontiguousarray(turned)))
    np.testing.assert_array_equal(part(images.astype(np.float64)), part(images))
    with pytest.raises(InputError, match="float32 NumPy array, got int64"):
        part(images.astype(np.int64))
    flatten = chain_slice(network, 4)
    before = images.copy()
    flatten(images)[:] = 7  # a view in the engine, not here
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (slice(None, None, 2), "has no step, got 2"),
        (slice(3, 3), "The slice 3:3 holds no unit"),
        (slice("head", "stem"), "The slice 'head':'stem' holds no unit"),
        (slice("stage9", None), "Unknown stage or unit 'stage9'. Did you mean 'stage"),
        ("haed", "Unknown stage or unit 'haed'. Did you mean 'head'"),
    ],
)
def test_keys_that_mean_nothing_are_told(key: Any, says: str, network: fake.FakeNetwork) -> None:
    with pytest.raises(InputError, match=says):
        chain_slice(network, key)


def test_an_index_outside_ends_a_loop_over_the_units(network: fake.FakeNetwork) -> None:
    with pytest.raises(IndexError):
        chain_slice(network, 7)
    with pytest.raises(IndexError):
        chain_slice(network, -8)
