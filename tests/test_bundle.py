from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from pyflux_transfer import bundle as checkpoint
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.flux.network import describe as plan_text
from pyflux_transfer.errors import BundleError, InputError, PyFluxTransferError, StorageError
from pyflux_transfer.insight.belonging import Belonging, learn
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.preprocessing import Fit, Preprocessing
from pyflux_transfer.networks.start import start
from tests.engines import fake

pytestmark = pytest.mark.usefixtures("fake_engine")

HEAD = Head(3, hidden=(6,), dropout=0.25, activation="tanh")


def bundle(seed: int = 0) -> Bundle:
    return Bundle(
        "tiny",
        ("ants", "bees", "été"),
        HEAD,
        Preprocessing(resize=10, crop=8, mean=(0.1, 0.2, 0.3), background=(1, 2, 3)),
        3,
        start(Plan(fake.TINY, HEAD).units, seed),
        {"engine": "fake", "training": {"best": {"valid_accuracy": 0.1 + 0.2}}},
        1.25,
    )


def assert_equal(one: Bundle, other: Bundle) -> None:
    assert replace(one, state={}) == replace(other, state={})
    assert set(one.state) == set(other.state)
    for name, value in one.state.items():
        np.testing.assert_array_equal(value, other.state[name])
        assert other.state[name].dtype == np.float32


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return checkpoint.write(tmp_path / "model.safetensors", bundle())


def test_a_bundle_comes_back_to_the_last_bit(saved: Path) -> None:
    assert_equal(checkpoint.read(saved), bundle())
    assert_equal(checkpoint.read(str(saved)), bundle())


@pytest.mark.parametrize("head", [None, Head(2), Head(2, keep="classifier"), Head(1000)])
def test_every_kind_of_head_comes_back(head: Head | None, tmp_path: Path) -> None:
    classes = tuple(f"c{i}" for i in range(head.classes if head else 1000))
    state = start(Plan(fake.TINY, head).units, 0)
    one = Bundle("tiny", classes, head, Preprocessing(), 0, state)
    assert_equal(checkpoint.read(checkpoint.write(tmp_path / "m.safetensors", one)), one)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_size_and_fit_come_back(fit: Fit, saved: Path) -> None:
    one = replace(bundle(), preprocessing=Preprocessing().sized(384, fit))
    assert checkpoint.read(checkpoint.write(saved, one)).preprocessing == one.preprocessing


def test_a_bundle_that_knows_of_no_fit_crops_and_the_usual_is_written_as_it_was(
    saved: Path,
) -> None:
    """So a version before there was a choice opens what it can, and refuses the rest."""
    with safe_open(str(saved), framework="numpy") as file:
        row = json.loads(file.metadata()[checkpoint.KEY])
    assert "fit" not in row["preprocessing"]
    assert checkpoint.read(saved).preprocessing.fit == "crop"


def test_describing_reads_everything_but_the_weights(saved: Path) -> None:
    assert checkpoint.describe(saved) == replace(bundle(), state={})


def test_the_file_is_an_ordinary_one_of_torchvision_names(saved: Path) -> None:
    assert "conv1.weight" in load_file(saved)
    with safe_open(str(saved), framework="numpy") as file:
        (text,) = file.metadata().values()
    assert json.loads(text)["format"] == checkpoint.FORMAT
    assert json.loads(text)["classes"] == ["ants", "bees", "été"]


def test_bare_weights_are_told_from_bundles(saved: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(bundle().state, bare)
    assert checkpoint.is_bundle(saved)
    assert not checkpoint.is_bundle(bare)
    for read in (checkpoint.read, checkpoint.describe):
        with pytest.raises(BundleError, match="bare weights, not a bundle"):
            read(bare)


# --- writing --------------------------------------------------------------------------------------


def test_writing_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "new" / "er" / "m.safetensors"
    assert checkpoint.write(place, bundle()) == place
    assert [path.name for path in place.parent.iterdir()] == ["m.safetensors"]


def test_the_file_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        checkpoint.write(tmp_path / "m.safetensors", bundle())
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "m.safetensors").stat().st_mode) == 0o640


def test_an_old_bundle_is_replaced(saved: Path) -> None:
    checkpoint.write(saved, bundle(seed=1))
    assert_equal(checkpoint.read(saved), bundle(seed=1))


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_the_old_bundle_whole(
    failure: BaseException, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(tensors: Any, path: Path, metadata: Any) -> None:
        save_file(tensors, path, metadata)
        os.truncate(path, 1000)
        raise failure

    expected = StorageError if isinstance(failure, OSError) else KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", half)
        with pytest.raises(expected):
            checkpoint.write(saved, bundle(seed=1))
    assert_equal(checkpoint.read(saved), bundle())
    assert list(saved.parent.iterdir()) == [saved]


FULL_DISK = """
    import resource, sys
    from tests.engines import fake
    from tests.test_bundle import bundle
    from pyflux_transfer import bundle as checkpoint
    from pyflux_transfer.networks.catalog import MODELS
    from pyflux_transfer.errors import StorageError

    MODELS["tiny"] = fake.TINY
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
    try:
        checkpoint.write(sys.argv[1], bundle(seed=1))
    except StorageError as error:
        print(error)
"""


def test_a_disk_that_fills_is_told_and_the_old_bundle_stays_whole(saved: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"Cannot write {saved}: ")
    assert "What was there before is unchanged. Free some space" in done.stdout
    assert done.stderr == ""
    assert_equal(checkpoint.read(saved), bundle())
    assert list(saved.parent.iterdir()) == [saved]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dir.safetensors").mkdir()
    for place in (tmp_path / "file" / "m.safetensors", tmp_path / "dir.safetensors"):
        with pytest.raises(StorageError, match="Cannot write"):
            checkpoint.write(place, bundle())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir.safetensors", "file"]


def test_a_reader_beside_writers_always_finds_a_whole_bundle(saved: Path) -> None:
    stop = threading.Event()

    def work(seed: int) -> None:
        while not stop.is_set():
            checkpoint.write(saved, bundle(seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            assert "conv1.weight" in checkpoint.read(saved).state
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert list(saved.parent.iterdir()) == [saved]


# --- what is refused ------------------------------------------------------------------------------


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change a bundle's description."""
    with safe_open(str(path), framework="numpy") as file:
        row = json.loads(file.metadata()[checkpoint.KEY])
    found = change(row)
    text = found if isinstance(found, str) else json.dumps(row)
    save_file(load_file(path), path, {checkpoint.KEY: text})
    return path


def test_a_bundle_of_format_1_has_the_temperature_1(saved: Path) -> None:
    def older(row: dict[str, Any]) -> None:
        row.update(format=1)
        del row["temperature"], row["plan"], row["belonging"]

    assert_equal(checkpoint.read(edited(saved, older)), replace(bundle(), temperature=1.0))


def test_a_bundle_of_format_2_has_no_plan(saved: Path) -> None:
    def older(row: dict[str, Any]) -> None:
        row.update(format=2)
        del row["plan"], row["belonging"]

    assert_equal(checkpoint.read(edited(saved, older)), bundle())


def belonging() -> Belonging:
    rows = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    cosines, logits = np.linspace(0.1, 0.9, 20), np.zeros((20, 3))
    return Belonging.of(learn(rows), cosines.astype(np.float32), logits.astype(np.float32))


def test_belonging_comes_back_and_stands_beside_the_weights(tmp_path: Path) -> None:
    one = replace(bundle(), belonging=belonging())
    path = checkpoint.write(tmp_path / "m.safetensors", one)
    for found in (checkpoint.read(path), checkpoint.describe(path)):
        assert found.belonging
        assert found.belonging.to_json() == belonging().to_json()
        np.testing.assert_array_equal(
            found.belonging.space.directions, belonging().space.directions
        )
    assert set(checkpoint.read(path).state) == set(bundle().state)
    with safe_open(str(path), framework="numpy") as file:
        row = json.loads(file.metadata()[checkpoint.KEY])
    assert row["belonging"]["threshold"] == belonging().threshold


def test_a_bundle_of_format_3_has_no_belonging(saved: Path) -> None:
    def older(row: dict[str, Any]) -> None:
        row.update(format=3)
        del row["belonging"]

    assert_equal(checkpoint.read(edited(saved, older)), bundle())


def test_belonging_without_its_tensors_is_refused(saved: Path) -> None:
    def claims(row: dict[str, Any]) -> None:
        row.update(belonging=belonging().to_json())

    with pytest.raises(BundleError, match=r"cannot be used.*lacks 'mean'"):
        checkpoint.read(edited(saved, claims))


def test_tensors_of_belonging_that_nobody_told_of_are_refused(tmp_path: Path) -> None:
    one = replace(bundle(), state={**bundle().state, "belonging.mean": np.ones(6, np.float32)})
    path = checkpoint.write(tmp_path / "m.safetensors", one)
    with pytest.raises(BundleError, match=r"belonging\.mean"):
        checkpoint.read(path)


def test_a_bundle_holds_the_plan_of_its_network(saved: Path) -> None:
    with safe_open(str(saved), framework="numpy") as file:
        plan = json.loads(file.metadata()[checkpoint.KEY])["plan"]
    assert plan == plan_text(Plan(fake.TINY, HEAD))
    assert plan.count("[[units]]") == len(Plan(fake.TINY, HEAD).units)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda row: row.update(format=6), "format 6; this version reads 1, 2, 3, 4, 5. Upgrade"),
        (lambda row: row.pop("plan") and None, "cannot be used.*plan"),
        (lambda row: row.update(plan=None), "plan must be a JSON str"),
        (lambda row: row.update(format="1"), "format '1'"),
        (lambda row: row.pop("format"), "description cannot be read"),
        (lambda _: "{", "description cannot be read"),
        (lambda _: "[1]", "description cannot be read"),
        (lambda _: "null", "description cannot be read"),
        (lambda row: row.update(colour=1), "unknown fields.*colour.*Upgrade"),
        (lambda row: row.update(format=1), "unknown fields.*temperature"),
        (lambda row: row.pop("temperature"), "cannot be used.*temperature"),
        (lambda row: row.update(temperature=0), "temperature must be a positive number, got 0"),
        (lambda row: row.update(temperature=-1.5), "must be a positive number, got -1.5"),
        (lambda row: row.update(temperature=math.inf), "must be a positive number, got inf"),
        (lambda row: row.update(temperature=math.nan), "must be a positive number, got nan"),
        (lambda row: row.update(temperature="1"), "must be a positive number, got '1'"),
        (lambda row: row.pop("classes"), "cannot be used.*classes"),
        (lambda row: row.pop("cut"), "cannot be used.*cut"),
        (lambda row: row.pop("head"), "cannot be used.*head"),
        (lambda row: row.update(architecture="tini"), "Unknown architecture 'tini'. Did you mean"),
        (lambda row: row.update(architecture=[1]), "cannot be used"),
        (lambda row: row.update(head=[1]), "cannot be used"),
        (lambda row: row.update(head="x"), "cannot be used"),
        (lambda row: row["head"].update(dropout=2), "dropout must be in"),
        (lambda row: row["head"].update(hidden=None), "cannot be used"),
        (lambda row: row["head"].update(hidden=["a"]), "cannot be used"),
        (lambda row: row["head"].update(colour=1), "cannot be used.*colour"),
        (lambda row: row.update(preprocessing=None), "cannot be used"),
        (lambda row: row["preprocessing"].update(crop=0), "crop must be positive"),
        (lambda row: row["preprocessing"].update(colour=1), "cannot be used.*colour"),
        (lambda row: row.update(cut=99), "cut must be from 0 to"),
        (lambda row: row.update(cut="head"), "cannot be used"),
        (lambda row: row.update(info=3), "cannot be used"),
        (lambda row: row.update(classes=["a", "b"]), "names 2 classes for 3 outputs"),
        (lambda row: row.update(classes=["a", "b", 3]), "classes must be text"),
        (lambda row: row.update(classes="abc"), "classes must be a JSON list"),
        (lambda row: row.update(classes=["a", "b", "a"]), "must differ from each other"),
        (lambda row: row.update(classes=["a", "b", " "]), "must not be empty"),
        (lambda row: row.update(classes=["a", "b", "\udce9"]), "is no Unicode text"),
        (lambda row: row.update(info=[["a", 1]]), "info must be a JSON dict"),
        (lambda row: row.update(format=True), "format True"),
        (lambda row: row.update(cut=True), "cut must be a JSON int"),
        (lambda row: row["preprocessing"].update(mean=[0.5, 0.5]), "three finite numbers"),
        (lambda row: row["preprocessing"].update(std=[1, 1, math.nan]), "three finite numbers"),
        (lambda row: row["preprocessing"].update(std=[1, 1, 0]), "std above 0"),
        (lambda row: row["preprocessing"].update(mean=["0", "0", "0"]), "three finite numbers"),
        (lambda row: row["preprocessing"].update(background=[0, 0, 256]), "from 0 to 255"),
        (lambda row: row["preprocessing"].update(resize=10**6, crop=10**6), "up to 4096"),
        (lambda row: row["preprocessing"].update(crop=2.5), "whole numbers"),
        (lambda row: row["preprocessing"].update(fit="padd"), "Unknown fit 'padd'. Did you mean"),
        (lambda row: row["preprocessing"].update(shape=1), r"unknown fields \['shape'\]. Upgrade"),
    ],
)
def test_a_description_that_is_not_ours_is_refused(
    change: Callable[[dict[str, Any]], Any], says: str, saved: Path
) -> None:
    edited(saved, change)
    for read in (checkpoint.read, checkpoint.describe):
        with pytest.raises(BundleError, match=says) as refusal:
            read(saved)
        assert str(saved) in str(refusal.value)


def with_tensors(path: Path, **changes: Any) -> Path:
    with safe_open(str(path), framework="numpy") as file:
        metadata = file.metadata()
    state = load_file(path) | {name.replace("__", "."): value for name, value in changes.items()}
    save_file({n: v for n, v in state.items() if v is not None}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"conv2__weight": None}, "lack 1 of .* tensors, the first is 'conv2.weight'"),
        ({"bn1__running_var": None}, "the first is 'bn1.running_var'"),
        ({"conv2__weight": np.zeros((12, 7, 1, 1), np.float32)}, r"must have shape \(12, 8, 1, 1"),
        ({"extra": np.zeros(1, np.float32)}, "1 tensors too many, the first is 'extra'"),
        ({"bn1__bias": np.zeros(8, np.float16)}, "tensor 'bn1.bias' is F16, not F32"),
        ({"bn1__bias": np.zeros(8, np.float64)}, "tensor 'bn1.bias' is F64, not F32"),
        ({"bn1__bias": np.full(8, np.nan, np.float32)}, "'bn1.bias' holds NaN or infinite"),
        ({"bn1__bias": np.full(8, -np.inf, np.float32)}, "'bn1.bias' holds NaN or infinite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(changes: dict[str, Any], says: str, saved: Path) -> None:
    with pytest.raises(BundleError, match=says) as refusal:
        checkpoint.read(with_tensors(saved, **changes))
    assert "damaged or was edited" in str(refusal.value)


def test_weights_of_another_architecture_are_refused(saved: Path) -> None:
    edited(saved, lambda row: row.update(architecture="resnet18", cut=0))
    with pytest.raises(BundleError, match=r"the first is 'layer1.0.conv1.weight'"):
        checkpoint.read(saved)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputError, match="No such file"):
            checkpoint.read(path)


def test_a_file_cut_short_anywhere_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in [*range(0, len(whole), len(whole) // 40), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(BundleError, match=r"not a readable .safetensors file.*cut short"):
            checkpoint.read(saved)


def test_a_header_with_any_byte_changed_is_a_bundle_or_a_clear_refusal(saved: Path) -> None:
    whole = saved.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    refusals: list[str] = []
    for position in rng.integers(8, header, 300):
        changed = bytearray(whole)
        changed[position] = rng.integers(32, 127)
        saved.write_bytes(bytes(changed))
        try:
            checkpoint.read(saved)
        except PyFluxTransferError as error:
            refusals.append(str(error))
    assert len(refusals) > 150
    assert all(str(saved) in refusal for refusal in refusals)


def test_nothing_in_a_bundle_is_run(tmp_path: Path) -> None:
    """A pickle under a bundle's name is no bundle."""
    import pickle

    path = tmp_path / "m.safetensors"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(BundleError):
        checkpoint.read(path)


def test_any_tensors_and_their_shapes_come_back(tmp_path: Path) -> None:
    tensors = {
        "number": np.asarray(3.5, np.float32),
        "none": np.zeros((0, 2), np.float32),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    checkpoint.write_tensors(tmp_path / "t.safetensors", tensors, {"a": "b"})
    back, metadata = checkpoint.read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"a": "b"}
    for name, value in tensors.items():
        assert back[name].shape == value.shape
        np.testing.assert_array_equal(back[name], value)
