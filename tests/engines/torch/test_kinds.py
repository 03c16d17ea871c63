"""Architectures against their published definitions, written independently."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from pyflux_transfer.data.preprocess import load
from pyflux_transfer.engines import pretrained
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.torch.kinds import TrainRunner, forward, same_padding
from pyflux_transfer.engines.torch.network import TorchNetwork, build
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import Array, State
from pyflux_transfer.networks.units import Layer
from pyflux_transfer.networks.weights.names import lite0_names
from tests.engines.reference import REFERENCES, reference

torch.set_num_threads(1)  # see test_torch.py

BIG = ("vgg13", "vgg16", "vgg19", "vgg13_bn", "vgg16_bn", "vgg19_bn", "resnet152",
       "wide_resnet50_2", "wide_resnet101_2", "resnext101_32x8d", "resnext101_64x4d")  # fmt: skip
SIDE = {"efficientnet_lite0": 224, "alexnet": 72}  # its padding is fixed ahead; 64 is too tame
NAMES = [pytest.param(n, marks=[pytest.mark.slow] if n in BIG else []) for n in REFERENCES]


def images(name: str, count: int = 2) -> Array:
    side = SIDE.get(name, 64)
    return np.random.default_rng(1).standard_normal((count, 3, side, side), dtype=np.float32)


def random_state(name: str) -> State:
    """Random weights, BatchNorm statistics among them; big tensors repeat a random stretch."""
    generator = np.random.default_rng(0)
    layers = [layer for unit in MODELS[name].units for layer in unit.layers]
    return {
        tensor: _random(layer, tensor.rsplit(".", 1)[1], shape, generator)
        for layer in layers
        for tensor, shape in layer.tensors.items()
    }


def _random(
    layer: Layer, leaf: str, shape: tuple[int, ...], generator: np.random.Generator
) -> Array:
    if layer.op == "norm" and leaf in ("weight", "running_var"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    count = min(int(np.prod(shape)), 30_011)
    values = np.resize(generator.standard_normal(count, dtype=np.float32), shape)
    scale = np.sqrt(2 / np.prod(shape[1:])) if leaf == "weight" else 0.1
    return np.ascontiguousarray(values * np.float32(scale))


def published_names(name: str) -> dict[str, str]:
    """Name in the published definition → name in the catalog."""
    counted = [n for n in reference(name).state_dict() if not n.endswith("num_batches_tracked")]
    ours = lite0_names(MODELS[name].units) if name == "efficientnet_lite0" else {}
    renamed = [n.rsplit(".", 1) for n in counted]
    return {
        n: f"{ours.get(layer, layer)}.{leaf}"
        for n, (layer, leaf) in zip(counted, renamed, strict=True)
    }


@pytest.mark.parametrize("name", REFERENCES)
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    theirs = reference(name).state_dict()
    ours = {n: s for unit in MODELS[name].units for n, s in unit.tensors.items()}
    assert {o: tuple(theirs[n].shape) for n, o in published_names(name).items()} == ours


def logits_of_reference(name: str, state: State, x: Array) -> Array:
    network = reference(name)
    named = {n: torch.tensor(state[o]) for n, o in published_names(name).items()}
    counters = {n: torch.tensor(0) for n in network.state_dict() if n.endswith("tracked")}
    network.load_state_dict({**named, **counters}, assign=True)
    with torch.inference_mode():
        result: Array = network(torch.from_numpy(x)).numpy()
    return result


def loaded(name: str, state: State) -> TorchNetwork:
    network = build(Plan(MODELS[name], seed=None))
    network.load_state(state)
    return network


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_the_published_definition(name: str) -> None:
    state, x = random_state(name), images(name)
    expected = logits_of_reference(name, state, x)
    network = loaded(name, state)
    assert expected.std() > 1e-3
    bound = 1e-5 * float(np.abs(expected).max())
    np.testing.assert_allclose(network.logits(network.embed(x)), expected, rtol=0, atol=bound)
    with torch.inference_mode():  # the steps that training runs
        plain = forward(TrainRunner(network.tensors), network._blocks, torch.from_numpy(x))
    np.testing.assert_allclose(plain.numpy(), expected, rtol=0, atol=bound)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(224, 3, 2, (0, 1)), (225, 3, 2, (1, 1)), (56, 5, 2, (1, 2)), (7, 5, 1, (2, 2)),
     (1, 1, 2, (0, 0))],
)  # fmt: skip
def test_same_padding_is_tensorflows(
    size: int, kernel: int, stride: int, expected: tuple[int, int]
) -> None:
    assert same_padding(size, kernel, stride) == expected


# --- EfficientNet-Lite0 with its real weights ---------------------------------------------------

# photo → class of ImageNet: a palace, a daisy
PHOTOS = {"china.jpg": 698, "flower.jpg": 985}


def published_preprocessing(photo: NDArray[np.uint8]) -> Array:
    """Shorter side to 256, centre 224, (value - 127) / 128, step by step with Pillow."""
    image = Image.fromarray(photo)
    width, height = image.size
    short = min(width, height)
    image = image.resize((256 * width // short, 256 * height // short), Image.Resampling.BICUBIC)
    left, top = (round((side - 224) / 2) for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    return np.ascontiguousarray(((pixels - 127) / 128).transpose(2, 0, 1)[None])


@pytest.fixture(scope="module")
def lite0() -> tuple[State, TorchNetwork]:
    state = pretrained("torch", MODELS["efficientnet_lite0"])
    return state, loaded("efficientnet_lite0", state)


@pytest.mark.parametrize("name", PHOTOS)
def test_lite0_knows_photos_with_its_own_normalisation(
    name: str, lite0: tuple[State, TorchNetwork]
) -> None:
    state, network = lite0
    photo = load_sample_image(name)
    expected = logits_of_reference("efficientnet_lite0", state, published_preprocessing(photo))

    def logits(preprocessing: Preprocessing) -> Array:
        return network.logits(network.embed(load(photo, preprocessing)[None]))

    own = MODELS["efficientnet_lite0"].preprocessing
    ours = logits(own)
    assert ours.argmax() == expected.argmax() == PHOTOS[name]
    right = np.abs(ours - expected).max()
    other = Preprocessing()  # the normalisation of torchvision's networks
    wrong = np.abs(logits(replace(own, mean=other.mean, std=other.std)) - expected).max()
    assert right < 0.05 < 1 < wrong
