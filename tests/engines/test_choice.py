"""Which engine `auto` means, for training and for answers alone, and what it says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyflux_transfer import engines
from pyflux_transfer.engines import choice
from pyflux_transfer.engines.choice import MUCH, Asked
from pyflux_transfer.errors import EngineError, InputError

ONE = 4_000_000_000  # what a photo costs
MANY = int(2 * MUCH / ONE)  # with two processors
FEW = Asked("resnet50", ONE, photos=1)
REMEDY = "{} is not installed. Run: pip install 'pyflux-transfer[{}]'"


class Machine:
    """What this machine has, as the choice sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engines = {"torch", "onnx"}
        self.gpus: list[str] = []
        self.flags: list[str] = []
        monkeypatch.setattr(engines, "missing", self.missing)
        monkeypatch.setattr(choice, "cores", lambda: 2)
        monkeypatch.setattr(choice, "visible_gpus", lambda: self.gpus)
        monkeypatch.setattr(choice, "instructions", lambda: self.flags)

    def missing(self, name: str) -> str | None:
        return None if name in self.engines else REMEDY.format(name, name)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_what_is_asked_for_is_taken(machine: Machine) -> None:
    del machine
    assert engines.choose("onnx") == ("onnx", "engine: onnx (asked for)")
    with pytest.raises(InputError, match="Did you mean 'onnx'"):
        engines.choose("onxx")


def test_training_takes_flux_else_torch(machine: Machine) -> None:
    assert engines.choose("auto")[0] == "torch"
    machine.engines = {"torch", "onnx", "flux"}
    assert engines.choose("auto")[0] == "flux"


def test_without_an_engine_that_trains_answers_are_left(machine: Machine) -> None:
    machine.engines = {"onnx"}
    name, why = engines.choose("auto")
    assert name == "onnx"
    assert "evaluates only" in why
    assert "pip install 'pyflux-transfer[torch]'" in why
    machine.engines = set()
    assert engines.choose("auto")[0] == "torch"  # whose error tells what to install


@pytest.mark.parametrize("flux", [True, False])
def test_a_few_photos_are_answered_by_onnx(machine: Machine, flux: bool) -> None:
    machine.flags = ["avx512_bf16"]
    machine.engines |= {"flux"} if flux else set()
    assert choice.choose(FEW)[0] == "onnx"
    assert choice.choose(replace(FEW, photos=MANY - 1))[0] == "onnx"


@pytest.mark.parametrize("photos", [MANY, None])
def test_bfloat16_pays_for_many_where_the_processor_has_it(
    machine: Machine, photos: int | None
) -> None:
    many = replace(FEW, photos=photos)
    assert choice.choose(many)[0] == "onnx"
    machine.flags = ["amx_bf16"]
    assert choice.choose(many)[0] == "torch"
    assert choice.choose(replace(many, precision="fp32"))[0] == "onnx"
    assert choice.choose(replace(many, mult_adds=ONE // 10))[0] == ("onnx" if photos else "torch")
    assert choice.choose(replace(many, architecture="densenet121"))[0] == "onnx"
    machine.engines = {"onnx"}
    assert choice.choose(many)[0] == "onnx"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (replace(FEW, device="cuda"), "for a GPU"),
        (replace(FEW, precision="bf16"), "for bfloat16"),
        (replace(FEW, gradients=True), "need gradients"),
    ],
)
def test_what_onnx_cannot_is_left_to_torch(machine: Machine, asked: Asked, reason: str) -> None:
    del machine
    name, why = choice.choose(asked)
    assert name == "torch"
    assert reason in why


def test_a_gpu_is_not_left_idle(machine: Machine) -> None:
    machine.gpus = ["0"]
    assert choice.choose(FEW) == ("torch", "engine: torch (there is a GPU)")
    assert choice.choose(replace(FEW, device="cpu"))[0] == "onnx"
    machine.engines = {"onnx"}
    assert choice.choose(FEW)[0] == "onnx"


def test_without_onnx_it_is_as_for_training(machine: Machine) -> None:
    machine.engines = {"torch"}
    assert choice.choose(FEW) == engines.choose("auto")


def test_an_engine_that_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name="onnxruntime")

    monkeypatch.setattr(engines, "import_module", gone)
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"pip install 'pyflux-transfer\[onnx\]'"):
        engines.build("onnx", None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("precision", "device", "known", "told"),
    [
        ("bf16", "cpu", ["avx512f"], True),
        ("bf16", "cpu", ["avx512f", "avx512_bf16"], False),
        ("bf16", "cpu", ["avx512f", "amx_bf16"], False),
        ("bf16", "cpu", [], False),  # the system tells nothing
        ("bf16", "cuda:0 (a card)", ["avx512f"], False),
        ("auto", "cpu", ["avx512f"], False),
    ],
)
def test_bfloat16_that_is_asked_for_and_emulated_is_told(
    precision: str, device: str, known: list[str], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "instructions", lambda: known)
    line = choice.emulated(precision, device)
    assert (line is not None) == told
