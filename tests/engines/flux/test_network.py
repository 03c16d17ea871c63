"""The flux engine: conformance, the border to Julia, and what it refuses."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer.engines import pretrained
from pyflux_transfer.engines.base import Network, Plan, Update
from pyflux_transfer.engines.flux import network as flux
from pyflux_transfer.engines.flux.julia import call
from pyflux_transfer.errors import EngineError, InputError, TrainingError, WeightsError
from pyflux_transfer.networks.catalog import MODELS, architecture
from pyflux_transfer.networks.head import Head
from tests.engines.conformance import Build, Conformance
from tests.engines.torch_side import noise, small

pytestmark = pytest.mark.flux

JULIA_TESTS = Path(__file__).parents[3] / "julia" / "test"


class FluxConformance(Conformance):
    beside_others = 1e-5

    @pytest.fixture
    def build(self) -> Build:
        return flux.build


class TestTiny(FluxConformance):
    pass


class TestResnet(FluxConformance):
    """Metalhead's own layers: residual blocks, strided shortcuts, padding."""

    side = 32

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(MODELS["resnet18"], Head(3, hidden=(10,), dropout=0.25), seed=3)


class Small(FluxConformance):
    """A family in small, under the name that a subclass gives."""

    family: str

    @pytest.fixture(autouse=True)
    def _sized(self) -> None:
        self.side = small(self.family).preprocessing.crop

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(small(self.family), Head(3, hidden=(10,), dropout=0.25), seed=3)


class TestEfficientNet(Small):
    family = "efficientnet"


class TestMobileNetV3(Small):
    family = "mobilenet_v3"


class TestDenseNet(Small):
    family = "densenet"


class TestGoogLeNet(Small):
    family = "googlenet"


class TestInceptionV3(Small):
    family = "inception_v3"
    slope_of_head = True  # the kinks of its ReLUs lie too near; see test_parity for the rest


class TestConvNeXt(Small):
    family = "convnext"


class TestViT(Small):
    family = "vit"


class TestDINOv2(Small):
    family = "dinov2"


@pytest.fixture(scope="module")
def network() -> Network:
    return flux.build(Plan(architecture("squeezenet1_1"), Head(2), seed=1))


def test_arrays_cross_without_a_copy() -> None:
    images = noise(2, 3, 5, 4)
    assert call("address", images.T) == images.ctypes.data
    labels = np.array([0, 1])
    assert call("address", labels) == labels.ctypes.data
    images.flags.writeable = False
    assert call("address", images.T) == images.ctypes.data


def test_results_are_numpys_own_memory(network: Network) -> None:
    logits = network.logits(network.embed(noise(2, 3, 64, 48)))
    assert type(logits) is np.ndarray
    assert logits.base is None
    assert logits.flags.writeable


def test_labels_begin_at_zero(network: Network) -> None:
    """With equal logits but for one class, that class has the smaller loss."""
    state = network.state()
    state["classifier.weight"][...] = 0
    state["classifier.bias"][...] = [4, 0]
    network.load_state(state)
    network.cut_at(len(network.units) - 1)
    x = network.embed(noise(1, 3, 64, 64))
    losses = [network.step(x, np.array([label]), {"head": 0.0}) for label in (0, 1)]
    assert losses == pytest.approx([0.01815, 4.01815], abs=1e-4)


def test_networks_do_not_share(network: Network) -> None:
    other = flux.build(Plan(architecture("squeezenet1_1"), Head(2), seed=2))
    assert not np.array_equal(
        other.state()["classifier.weight"], network.state()["classifier.weight"]
    )
    before = network.state()
    other.load_state({name: value + 1 for name, value in other.state().items()})
    for name, value in network.state().items():
        np.testing.assert_array_equal(value, before[name])


def test_julia_forgets_a_network_that_python_dropped() -> None:
    plan = Plan(architecture("squeezenet1_1"), Head(2), seed=None)
    dropped = flux.build(plan)
    number = dropped._number
    del dropped
    gc.collect()
    flux.build(plan)
    with pytest.raises(EngineError, match="KeyError"):
        call("name_of_device", number)


@pytest.mark.parametrize("name", ["vgg11", "alexnet"])
def test_a_kept_classifier_keeps_metalheads_layers(name: str) -> None:
    network = flux.build(Plan(architecture(name), Head(3, keep="hidden"), seed=None))
    names = [name for name in network.state() if name.startswith("classifier")]
    assert len(names) == 6
    assert network.logits(noise(1, 3, 64, 64)).shape == (1, 3)


def test_batch_of_one_value_a_channel_cannot_train_batchnorm() -> None:
    network = flux.build(Plan(architecture("resnet18"), Head(2), seed=1))
    with pytest.raises(TrainingError, match="at least 2 images, or freeze_bn"):
        network.step(noise(1, 3, 32, 32), np.array([0]), dict.fromkeys(
            ("stem", "stage1", "stage2", "stage3", "stage4", "head"), 0.1))  # fmt: skip
    assert np.isfinite(network.logits(noise(1, 3, 32, 32))).all()


def test_a_julia_error_arrives_as_ours_and_the_network_lives_on(network: Network) -> None:
    network.cut_at(0)
    with pytest.raises(InputError, match="Julia: DimensionMismatch"):
        network.apply(noise(1, 7, 64, 64), 0, 3)
    assert network.logits(network.embed(noise(1, 3, 64, 64))).shape == (1, 2)


def test_an_image_too_small_names_the_unit() -> None:
    network = flux.build(Plan(architecture("alexnet"), Head(2), seed=1))
    with pytest.raises(InputError, match=r"unit features\.5: an image of \(2, 2\) is too small"):
        network.apply(noise(1, 3, 27, 27), 0, len(network.units))


def test_sides_that_patches_do_not_fill_are_refused() -> None:
    network = flux.build(Plan(small("vit"), Head(2), seed=1))
    with pytest.raises(InputError, match=r"multiples of 8, got 30 × 24"):
        network.logits(noise(1, 3, 30, 24))


def test_images_too_large_for_a_variance_change_nothing() -> None:
    network = flux.build(Plan(architecture("resnet18"), Head(2), seed=1))
    before = network.state()
    rates = dict.fromkeys(("stem", "stage1", "stage2", "stage3", "stage4", "head"), 0.1)
    images = noise(2, 3, 32, 32) * np.float32(1e25)
    assert not np.isfinite(network.step(images, np.array([0, 1]), rates))
    for name, value in network.state().items():
        np.testing.assert_array_equal(value, before[name])


def test_broken_weights_on_this_machine_are_no_failed_download(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise WeightsError("Julia: BrokenArtifact: cannot be read. Delete /a and try again")

    monkeypatch.setattr(flux, "call", broken)
    with pytest.raises(WeightsError, match="BrokenArtifact") as caught:
        flux.artifact(architecture("squeezenet1_1"))
    assert "downloaded" not in str(caught.value)


def test_bf16_is_refused() -> None:
    with pytest.raises(InputError, match="float32"):
        flux.build(Plan(architecture("resnet18"), precision="bf16"))
    assert flux.build(Plan(architecture("squeezenet1_1"), precision="auto")).precision == "fp32"


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if call("load_gpu"):
        pytest.skip("this machine has one")
    with pytest.raises(EngineError, match="setup --gpu"):
        flux.build(Plan(architecture("squeezenet1_1"), device="cuda"))


def test_weights_that_metalhead_does_not_publish_come_from_the_package() -> None:
    state = pretrained("flux", architecture("efficientnet_lite0"))
    network = flux.build(Plan(architecture("efficientnet_lite0"), seed=None))
    network.load_state(state)
    np.testing.assert_array_equal(
        network.state()["features.0.0.weight"], state["features.0.0.weight"]
    )


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flux, "DOWNLOAD_S", 0)
    with pytest.raises(WeightsError, match=r"could not be downloaded: Julia: .* within 0 s"):
        flux.artifact(architecture("squeezenet1_1"))


def test_class_weights_of_another_type_are_refused(network: Network) -> None:
    network.cut_at(len(network.units) - 1)
    x = network.embed(noise(2, 3, 64, 64))
    with pytest.raises(InputError, match="Class weights must be float32"):
        network.step(x, np.array([0, 1]), {"head": 0.1}, np.ones(2))  # type: ignore[arg-type]


def test_the_update_reaches_julia(network: Network) -> None:
    network.cut_at(len(network.units) - 1)
    network.prepare(Update(optimizer="sgd", momentum=0.0, weight_decay=0.5, freeze_bn=True))
    x = np.zeros((1, 512), np.float32)
    before = network.state()["classifier.weight"]
    network.step(x, np.array([0]), {"head": 0.1})
    np.testing.assert_allclose(network.state()["classifier.weight"], 0.95 * before, rtol=1e-6)


@pytest.mark.parametrize("name", [file.stem for file in sorted((JULIA_TESTS / "plans").iterdir())])
def test_the_plans_of_julias_tests_are_the_catalogs(name: str) -> None:
    text = (JULIA_TESTS / "plans" / f"{name}.toml").read_text("utf-8")
    assert text == flux.describe(Plan(architecture(name)))


@pytest.mark.parametrize("name", MODELS)
def test_a_description_is_toml(name: str) -> None:
    plan = Plan(architecture(name), Head(2, hidden=(8,), dropout=0.5))
    row = pytest.importorskip("tomllib").loads(flux.describe(plan))
    assert [unit["name"] for unit in row["units"]] == [unit.name for unit in plan.units]
    assert [unit["options"] for unit in row["units"]] == [unit.options for unit in plan.units]
