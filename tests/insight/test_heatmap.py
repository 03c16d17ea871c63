from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from pyflux_transfer.engines.base import Network, Plan
from pyflux_transfer.engines.torch.network import build
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.heatmap import heat_maps, last_map, method, scaled
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head
from tests.engines import fake
from tests.engines.torch_side import noise

LABELS = np.array([2, 0], np.int64)


def network(name: str, head: Head) -> Network:
    return build(Plan(MODELS[name], head, seed=1, precision="fp32"))


def grad_cam(x: torch.Tensor, logits: torch.Tensor) -> np.ndarray:
    """Selvaraju et al. 2017, equations 1 and 2, as captum's LayerGradCam with a ReLU has them."""
    chosen = logits[torch.arange(len(x)), torch.from_numpy(LABELS)].sum()
    (gradient,) = torch.autograd.grad(chosen, x)
    return F.relu((gradient.mean((2, 3), keepdim=True) * x).sum(1)).numpy(force=True)


def test_behind_pooling_the_class_activation_map_is_grad_cam() -> None:
    net = network("resnet18", Head(3))
    images = noise(2, 3, 64, 64)
    at = last_map(net.units, images.shape)
    x = net.apply(images, 0, at)
    assert x.shape == (2, 512, 2, 2)
    assert method(net.units, at) == "class activation map"
    state = net.state(len(net.units) - 1)
    given = torch.from_numpy(x).requires_grad_()
    logits = F.linear(given.mean((2, 3)), *(torch.tensor(v) for v in state.values()))
    expected = grad_cam(given, logits)
    found = heat_maps(net, x, LABELS, at)
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


def test_any_other_head_has_grad_cam() -> None:
    net = network("resnet18", Head(3, hidden=(10,), dropout=0.5))
    images = noise(2, 3, 64, 64)
    at = last_map(net.units, images.shape)
    x = net.apply(images, 0, at)
    assert method(net.units, at) == "Grad-CAM"
    w, b, v, c = (torch.tensor(value) for value in net.state(at).values())
    given = torch.from_numpy(x).requires_grad_()
    expected = grad_cam(given, F.linear(F.relu(F.linear(given.mean((2, 3)), w, b)), v, c))
    found = heat_maps(net, x, LABELS, at)
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


def test_pooling_behind_the_last_convolution_is_not_the_last_map() -> None:
    net = network("vgg11", Head(3, keep="hidden"))
    at = last_map(net.units, (1, 3, 224, 224))
    assert net.units[at - 1].name == "features.18"


def test_a_vision_transformer_is_explained_at_its_patches() -> None:
    units = Plan(MODELS["vit_b_16"], Head(3)).units
    at = last_map(units, (1, 3, 224, 224))
    assert units[at].name == "encoder.layers.encoder_layer_11"

    class Tokens:
        """The gradient is 1 at channel 0 of the patches; 9 of 10 tokens are patches."""

        def __init__(self) -> None:
            self.units = units

        def logit_gradient(self, x: np.ndarray, y: np.ndarray, start: int) -> np.ndarray:
            assert (len(y), start) == (1, at)
            gradient = np.zeros_like(x)
            gradient[:, 1:, 0] = 1
            return gradient

    x = np.zeros((1, 10, 4), np.float32)
    x[0, 0, 0], x[0, 6, 0], x[0, 2, 0] = 100, 2, -1
    (found,) = heat_maps(Tokens(), x, np.array([0]), at)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, [[0, 0, 0], [0, 0, 2], [0, 0, 0]])


def test_maps_go_from_0_to_1_and_an_empty_one_stays_empty() -> None:
    maps = np.stack([np.array([[0, 2], [4, 1]]), np.zeros((2, 2))]).astype(np.float32)
    np.testing.assert_array_equal(scaled(maps), [[[0, 0.5], [1, 0.25]], [[0, 0], [0, 0]]])


def test_no_map_is_told() -> None:
    units = Plan(fake.TINY, Head(3)).units
    with pytest.raises(InputError, match="no feature map"):
        last_map(units, (1, 3, 1, 1))
