from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import pyflux_transfer as pft
from pyflux_transfer import bundle as checkpoint
from pyflux_transfer.data.preprocess import load as load_image
from pyflux_transfer.errors import (
    BundleError,
    DataError,
    ImageError,
    InputError,
    PyFluxTransferError,
    WeightsError,
)
from pyflux_transfer.insight.metrics import evaluate
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.predict import probabilities
from pyflux_transfer.training.train import Run
from tests import photos
from tests.broken import BROKEN
from tests.engines import fake
from tests.training.helpers import Notes

pytestmark = pytest.mark.usefixtures("fake_engine")

CLASSES = ["blue", "green", "red"]
COUNTS = {"blue": 8, "green": 8, "red": 8}


@pytest.fixture
def net() -> pft.Classifier:
    return pft.load("tiny", engine="fake")


@pytest.fixture
def model(net: pft.Classifier) -> pft.Classifier:
    return net.with_head(CLASSES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "photos", COUNTS)


def timeless(run: Run) -> list[Any]:
    return [replace(record, seconds=0.0) for record in run.records]


def tensors(model: pft.Classifier) -> dict[str, Any]:
    return model.network.state()


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])


# --- loading --------------------------------------------------------------------------------------


def test_loading_takes_the_published_weights(net: pft.Classifier) -> None:
    assert_same(tensors(net), fake.artifact(fake.TINY))
    assert net.units[net.network.cut].stage == "head"
    assert net.engine == "engine: fake (asked for)"


def test_published_weights_are_chosen_and_remembered_by_their_tag(
    net: pft.Classifier, tmp_path: Path
) -> None:
    assert net.info == {"weights": "imagenet1k_v1"}
    assert net.classes[207] == "golden retriever"
    assert_same(tensors(pft.load("tiny", weights="imagenet1k_v1", engine="fake")), tensors(net))
    path = net.with_head(CLASSES).save(tmp_path / "m.safetensors")
    assert pft.load(path, engine="fake").info["weights"] == "imagenet1k_v1"
    with pytest.raises(InputError, match=r"published tag \(imagenet1k_v1\)"):
        pft.load("tiny", weights="imagenet1k_v2", engine="fake")


def test_published_weights_without_a_head_want_one_before_they_predict(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    row = replace(fake.TINY, weights=(replace(fake.TINY.weights[0], headless=True),))
    monkeypatch.setitem(MODELS, "tiny", row)
    body = {n: v for n, v in fake.artifact(row).items() if not n.startswith("classifier")}
    monkeypatch.setattr(fake, "artifact", lambda _: body)
    net = pft.load("tiny", engine="fake")
    assert net.engine.endswith("these weights come without a head")
    assert net.info == {"weights": "imagenet1k_v1"}
    with pytest.raises(InputError, match=r"without a head .*with_head\("):
        net.predict(folder)
    answers = net.with_head(CLASSES).predict(folder)
    assert answers[0].label in CLASSES


def test_a_random_start_depends_on_the_seed() -> None:
    first, again, other = (
        pft.load("tiny", weights=weights, engine="fake", seed=seed)
        for weights, seed in ((None, 1), ("none", 1), (None, 2))
    )
    assert_same(tensors(first), tensors(again))
    assert not np.array_equal(tensors(first)["conv1.weight"], tensors(other)["conv1.weight"])


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    state = pft.load("tiny", weights=None, engine="fake", seed=9).network.state()
    save_file(state, tmp_path / "w.safetensors")
    for path in (tmp_path / "w.safetensors", str(tmp_path / "w.safetensors")):
        assert_same(tensors(pft.load("tiny", weights=path, engine="fake")), state)


def test_a_bundle_is_a_network_or_the_weights_of_one(model: pft.Classifier, tmp_path: Path) -> None:
    path = model.save(tmp_path / "m.safetensors")
    for loaded in (
        pft.load(path, engine="fake"),
        pft.load(str(path), engine="fake"),
        pft.load("tiny", weights=path, engine="fake"),
    ):
        assert loaded.classes == tuple(CLASSES)
        assert_same(tensors(loaded), tensors(model))


def test_a_bundle_of_another_architecture_is_refused(model: pft.Classifier, tmp_path: Path) -> None:
    path = model.save(tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match=r"is a bundle of tiny, not of resnet18.*load\("):
        pft.load("resnet18", weights=path, engine="fake")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_file({"layer1.0.conv1.weight": np.zeros(1, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="They belong to another architecture or head"):
        pft.load("tiny", weights=tmp_path / "w.safetensors", engine="fake")


@pytest.mark.parametrize(
    ("name", "options", "error", "says"),
    [
        ("tinny", {}, InputError, "Unknown architecture 'tinny'. Did you mean 'tiny'"),
        ("tiny", {"engine": "fakes"}, InputError, "Unknown engine 'fakes'. Did you mean 'fake'"),
        ("tiny", {"precision": "fp16"}, InputError, "precision must be fp32, bf16 or auto"),
        ("tiny", {"device": "gpu"}, InputError, "device must be auto, cpu or cuda"),
        ("tiny", {"weights": "nowhere.pth"}, InputError, "No such file"),
        ("tiny", {"weights": "nowhere.safetensors"}, InputError, "No such file"),
        ("nowhere.safetensors", {}, InputError, "No such file"),
    ],
)
def test_what_cannot_be_loaded_is_told(
    name: str, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        pft.load(name, **{"engine": "fake", **options})


def test_bare_weights_are_no_network(tmp_path: Path) -> None:
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(BundleError, match="Give it as weights= of an architecture"):
        pft.load(tmp_path / "w.safetensors", engine="fake")


def test_another_size_and_fit(folder: Path, tmp_path: Path) -> None:
    net = pft.load("tiny", engine="fake", size=12, fit="pad")
    assert net.preprocessing == fake.TINY.preprocessing.sized(12, "pad")
    model = net.with_head(CLASSES)
    model.fit(folder)
    image = next(folder.rglob("*.png"))
    before = model.predict(image)
    again = pft.load(model.save(tmp_path / "m.safetensors"), engine="fake")
    assert again.preprocessing == net.preprocessing
    assert again.predict(image) == before
    assert again.outline(0)[0].input == (1, 3, 12, 12)
    found, _, _ = again.features(folder, cut="stage1", cache=False)
    assert found.shape[1:] == (8, 12, 12)


def test_a_size_that_the_network_cannot_take_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="image may be too small"):
        pft.load("alexnet", weights=None, engine="torch", size=20)


# --- units and slices -----------------------------------------------------------------------------


def test_a_network_is_a_chain(net: pft.Classifier) -> None:
    assert len(net) == len(net.units) == 7
    assert [one.units[0].name for one in net] == [unit.name for unit in net.units]  # type: ignore[attr-defined]
    images = np.zeros((2, 3, 8, 8), np.float32)
    assert net[:-1](images).shape == (2, 16)
    assert net["stem":"stage2"](images).shape == (2, 12, 8, 8)  # type: ignore[misc]
    assert len(net["head"]) == 4


def test_a_network_is_called_on_images_and_equals_its_slices(net: pft.Classifier) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)
    logits = net(images)
    assert logits.shape == (2, 1000)
    np.testing.assert_array_equal(logits, net.network.logits(net.network.embed(images)))
    rectified = np.maximum(net[:"head"](images.astype(np.float64)), 0)  # type: ignore[misc]
    assert net["head"](rectified).shape == (2, 1000)
    np.testing.assert_array_equal(net["conv1"](images), net[0](images))
    with pytest.raises(InputError, match="array of floats, got uint8"):
        net(images.astype(np.uint8))


def test_a_network_without_its_head_is_not_called(tmp_path: Path, net: pft.Classifier) -> None:
    state = {n: v for n, v in tensors(net).items() if not n.startswith("classifier")}
    save_file(state, tmp_path / "trunk.safetensors")
    headless = pft.load("tiny", weights=tmp_path / "trunk.safetensors", engine="fake")
    with pytest.raises(InputError, match="came without a head"):
        headless(np.zeros((1, 3, 8, 8), np.float32))


def test_a_network_shows_itself_layer_by_layer(model: pft.Classifier) -> None:
    lines = repr(model).splitlines()
    assert lines[0] == "tiny, 3 classes, fake engine: 419 parameters"
    assert any(line.split() == ["bn1:", "norm", "8", "16"] for line in lines)
    assert sum("trained" in line for line in lines) == 1
    assert repr(model).isascii()


def test_layers_are_found_by_name(model: pft.Classifier) -> None:
    assert model.layers["conv2"].shape == (12, 8, 1, 1)
    np.testing.assert_array_equal(
        model.layers["bn2"].tensors["bn2.running_var"], tensors(model)["bn2.running_var"]
    )


def test_summary_prints_the_units(
    model: pft.Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    model.summary()
    text = capsys.readouterr().out
    assert any(line.split()[:4] == ["0", "conv1", "conv", "3x8x8"] for line in text.splitlines())
    assert "bn1" not in text
    model.summary(3, columns=["output"], batch_size=5)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["bn1", "5x8x8x8"] in shown
    assert model.outline(1, 5)[1].output == (5, 8, 8, 8)


# --- heads ----------------------------------------------------------------------------------------


def test_a_head_copies_the_trunk_and_begins_anew(net: pft.Classifier) -> None:
    before = tensors(net)
    model = net.with_head(CLASSES, hidden=[5], dropout=0.5)
    assert [unit.name for unit in model.units[-3:]] == [
        "classifier.0", "classifier.2", "classifier.3",
    ]  # fmt: skip
    assert model.classes == tuple(CLASSES)
    for name in ("conv1.weight", "bn2.running_mean", "conv3.bias"):
        np.testing.assert_array_equal(tensors(model)[name], before[name])
    model.network.load_state({n: v + 1 for n, v in tensors(model).items()})
    assert_same(tensors(net), before)


def test_a_heads_start_depends_on_its_seed(net: pft.Classifier) -> None:
    first, again, other = (
        tensors(net.with_head(CLASSES, seed=s))["classifier.weight"] for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_old_classifier_can_be_kept(net: pft.Classifier) -> None:
    model = net.with_head(CLASSES, keep="classifier")
    np.testing.assert_array_equal(
        tensors(model)["classifier.1.weight"], tensors(net)["classifier.1.weight"]
    )
    assert tensors(model)["head.weight"].shape == (3, 1000)


def test_a_trained_head_is_replaced_even_by_one_of_its_size(
    net: pft.Classifier, folder: Path
) -> None:
    for keep in (None, "classifier"):
        model = net.with_head(CLASSES, keep=keep)  # type: ignore[arg-type]
        model.fit(folder, epochs=1, cut="head" if keep is None else "stage2")
        anew = model.with_head(["a", "b", "c"], keep=keep)  # type: ignore[arg-type]
        name = "classifier.weight" if keep is None else "head.weight"
        assert not np.array_equal(tensors(model)[name], tensors(anew)[name])
        np.testing.assert_array_equal(
            tensors(anew)[name],
            tensors(net.with_head(["a", "b", "c"], keep=keep))[name],  # type: ignore[arg-type]
        )


def test_a_classifier_that_is_gone_cannot_be_kept(model: pft.Classifier) -> None:
    with pytest.raises(InputError, match="lost to an earlier head"):
        model.with_head(CLASSES, keep="classifier")


def test_weights_with_another_head_give_what_comes_before_it(
    tmp_path: Path, net: pft.Classifier, folder: Path
) -> None:
    state = net.network.state()
    state["classifier.1.weight"] = state["classifier.1.weight"][:4]
    save_file(state, tmp_path / "four.safetensors")
    given = pft.load("tiny", weights=tmp_path / "four.safetensors", engine="fake")
    assert "the weights' own head does not fit and was left out" in given.engine
    image = np.zeros((40, 40, 3), np.uint8)
    for use in (
        lambda: given.predict(image),
        lambda: given.save(tmp_path / "x.safetensors"),
        lambda: given.with_head(["a", "b"], keep="classifier"),
    ):
        with pytest.raises(InputError, match=r"came without a head.*net\.with_head"):
            use()
    model = given.with_head(["blue", "green", "red"])
    np.testing.assert_array_equal(model.network.state()["conv3.bias"], state["conv3.bias"])
    model.fit(folder)
    assert model.evaluate(folder).accuracy > 0.9


def test_numbers_of_numpy_are_options_like_any(
    tmp_path: Path, net: pft.Classifier, folder: Path
) -> None:
    model = net.with_head(
        np.array(["blue", "green", "red"]), hidden=np.array([4]), dropout=np.float32(0.1)
    )
    model.fit(
        folder, epochs=np.int64(1), lr=np.float32(1e-3), valid=np.float32(0.25),
        batch_size=np.int64(8), seed=np.int64(3), weight_decay=np.float32(0.01),
        label_smoothing=np.array(0.1), freeze_bn=np.bool_(True),
        class_weights={"blue": np.float32(1), "green": 1, "red": np.float64(2)},
    )  # fmt: skip
    saved = checkpoint.read(model.save(tmp_path / "m.safetensors"))
    assert saved.info["training"]["options"]["batch_size"] == 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": "1e-3"}, "learning rate must be positive, got '1e-3'"),
        ({"weight_decay": "0"}, "weight_decay must be a number, got '0'"),
        ({"max_skipped": 2}, "max_skipped must be a share from 0 to 1, got 2"),
        ({"batch_size": True}, "batch_size must be a whole number of at least 1, got True"),
    ],
)
def test_options_of_another_kind_are_refused_before_the_work(
    options: dict[str, Any], says: str, net: pft.Classifier
) -> None:
    with pytest.raises(InputError, match=says):
        net.with_head(["a", "b"]).fit("nowhere", **options)


def test_a_limit_that_was_raised_for_the_scan_holds_for_what_was_scanned(
    net: pft.Classifier, folder: Path
) -> None:
    size = 5000, 10_400
    Image.new("1", size).save(folder / "blue" / "large.png")
    with pytest.raises(DataError, match=r"raise max_skipped \(--max-skipped\)"):
        net.with_head(["blue", "green", "red"]).fit(folder, max_skipped=0)
    splits = pft.scan(folder, max_pixels=size[0] * size[1])
    model = net.with_head(["blue", "green", "red"])
    model.fit(splits)
    assert model.evaluate(splits).count == model.evaluate(folder).count + 1
    assert len(model.features(splits, cache=False)[0]) == len(splits.train.samples)
    model.evaluate(folder, max_pixels=size[0] * size[1], max_skipped=0)


@pytest.mark.parametrize(
    ("classes", "options", "says"),
    [
        (["a"], {}, "at least 2 classes, got 1"),
        (["a", "a"], {}, "must differ from each other"),
        ("ants", {}, "must be a list of names, got 'ants'"),
        (["a", "b"], {"hidden": [0]}, "must be positive"),
        (["a", "b"], {"dropout": 1}, r"dropout must be in \[0, 1\)"),
        (["a", "b"], {"activation": "rely"}, "Did you mean 'relu'"),
        (["a", "b"], {"keep": "all"}, "keep must be None, 'hidden' or 'classifier'"),
        (["a", "b"], {"keep": "hidden"}, "needs a classifier with hidden Dense layers"),
        (["a", "b"], {"keep": "classifier", "hidden": [4]}, "cannot be added"),
    ],
)
def test_heads_that_cannot_be_are_refused(
    classes: Any, options: dict[str, Any], says: str, net: pft.Classifier
) -> None:
    with pytest.raises(InputError, match=says):
        net.with_head(classes, **options)


# --- training -------------------------------------------------------------------------------------


def test_five_lines_train_save_and_predict(
    net: pft.Classifier, folder: Path, tmp_path: Path
) -> None:
    model = net.with_head(CLASSES)
    run = model.fit(folder, cut="stage1", epochs=12, lr=3e-2)
    path = model.save(tmp_path / "m.safetensors")
    loaded = pft.load(path, engine="fake")
    assert run.best.valid_accuracy == 1
    assert loaded.predict(folder) == model.predict(folder)
    assert loaded.evaluate(folder) == model.evaluate(folder)
    assert loaded.evaluate(folder).accuracy > 0.9


def test_the_same_photos_and_seed_are_the_same_history(net: pft.Classifier, folder: Path) -> None:
    runs, notes = [], Notes()
    for seed, watcher in ((0, Notes()), (0, notes), (1, Notes())):
        model = net.with_head(CLASSES, seed=seed, dropout=0.2)
        runs.append(timeless(model.fit(folder, epochs=3, seed=seed, watcher=watcher)))
    assert runs[0] == runs[1] != runs[2]
    assert "training features: 18 of 18 from the feature cache" in notes.lines


def test_without_the_cache_nothing_is_kept(
    model: pft.Classifier, folder: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        notes = Notes()
        model.fit(folder, epochs=1, cache=False, watcher=notes)
        assert not any("feature cache" in line for line in notes.lines)
    assert not list((tmp_path / "cache").rglob("rows.f32"))


def test_a_cache_can_be_put_anywhere(model: pft.Classifier, folder: Path, tmp_path: Path) -> None:
    model.fit(folder, epochs=1, cache=pft.Cache(tmp_path / "mine", memory_bytes=0))
    assert list((tmp_path / "mine").rglob("rows.f32"))


def test_what_a_run_begins_with_is_said(model: pft.Classifier, folder: Path) -> None:
    notes = Notes()
    model.fit(folder, epochs=1, watcher=notes)
    assert notes.lines[:2] == [
        "engine: fake (asked for)",
        "18 images of 3 classes to train, 6 to validate",
    ]


def test_deeper_training_has_a_lower_rate_unless_given(model: pft.Classifier, folder: Path) -> None:
    def rate(**options: Any) -> float:
        return model.fit(folder, epochs=1, schedule="constant", **options).records[0].lr

    assert rate() == 1e-3
    assert rate(cut="stage2") == 1e-4
    assert rate(cut=0, lr=0.5) == 0.5


def test_fine_tuning_trains_the_head_then_deeper(model: pft.Classifier, folder: Path) -> None:
    before = tensors(model)
    run = model.fine_tune(folder, freeze_epochs=2, epochs=3, depth=2, schedule="constant")
    assert [(r.phase, r.lr) for r in run.records] == [
        (1, 1e-3), (1, 1e-3), (2, 1e-4), (3, 1e-4), (3, 1e-4),
    ]  # fmt: skip
    np.testing.assert_array_equal(before["conv1.weight"], tensors(model)["conv1.weight"])


@pytest.mark.parametrize("valid", [0.5, "folder", None])
def test_validation_images_are_a_share_a_folder_or_none(
    valid: Any, model: pft.Classifier, folder: Path, tmp_path: Path
) -> None:
    if valid == "folder":
        valid = photos.write(tmp_path / "valid", {"blue": 2, "green": 3, "red": 4}, seed=50)
    notes = Notes()
    run = model.fit(folder, valid=valid, epochs=1, watcher=notes)
    train, count = {0.5: (12, 12), None: (24, 0)}.get(valid, (24, 9))
    assert notes.lines[1] == f"{train} images of 3 classes to train, {count} to validate"
    assert (run.best.valid_loss is None) is (count == 0)


def test_a_source_with_splits_uses_them(model: pft.Classifier, folder: Path) -> None:
    rows = ["path,label,split"]
    for label in CLASSES:
        for i in range(8):
            rows.append(f"{label}/{i:03}.png,{label},{('train', 'valid', 'test')[min(i // 3, 2)]}")
    (folder / "table.csv").write_text("\n".join(rows))
    for data in (folder / "table.csv", pft.scan(folder / "table.csv")):
        notes = Notes()
        model.fit(data, epochs=1, watcher=notes)
        assert notes.lines[1] == "9 images of 3 classes to train, 9 to validate"
        assert model.evaluate(data).count == 6
        found, labels, paths = model.features(data)
        assert found.shape == (24, 16)
        assert (len(labels), len(set(paths))) == (24, 24)


def test_groups_of_a_table_are_counted_and_told_where_they_straddle(
    model: pft.Classifier, folder: Path
) -> None:
    rows = ["path,label,split,group"]
    for label in CLASSES:
        for i in range(8):
            rows.append(f"{label}/{i:03}.png,{label},{'test' if i > 5 else 'train'},p{i % 7}")
    (folder / "table.csv").write_text("\n".join(rows))
    notes = Notes()
    run = model.fit(folder / "table.csv", watcher=notes)
    assert notes.lines[1] == "18 images of 3 classes in 6 groups to train, 0 to validate"
    assert run.estimate is not None
    model.evaluate(folder / "table.csv", watcher=notes)
    assert notes.lines[-1] == (
        "1 groups stand in both these images and other splits, which flatters the scores: p0"
    )


def test_classes_keep_the_order_they_were_given(net: pft.Classifier, folder: Path) -> None:
    model = net.with_head(["red", "blue", "green"])
    model.fit(folder, solver="lbfgs", weight_decay=1e-5)
    assert model.evaluate(folder).accuracy > 0.9
    assert model.predict(folder / "red" / "000.png")[0].label == "red"


def test_classes_that_differ_are_refused_with_both_lists(net: pft.Classifier, folder: Path) -> None:
    model = net.with_head(["ants", "bees"])
    for refused in (
        lambda: model.fit(folder),
        lambda: model.evaluate(folder),
        lambda: model.fit(pft.scan(folder)),
    ):
        with pytest.raises(InputError, match=r"blue, green, red.*ants, bees"):
            refused()


def test_a_network_with_its_old_classes_says_what_it_needs(
    net: pft.Classifier, folder: Path
) -> None:
    for refused in (net.fit, net.fine_tune, net.evaluate):
        with pytest.raises(InputError, match=r"1000 ImageNet classes\. Give it a head"):
            refused(folder)


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_data_that_cannot_be_used_is_refused_with_the_remedy(
    make: Callable[[Path], Path], net: pft.Classifier, tmp_path: Path
) -> None:
    data = make(tmp_path / "broken")
    with pytest.raises(DataError) as refusal:
        net.with_head(pft.scan(data).train.classes).fit(data, epochs=1)
    assert BROKEN[make] in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batchsize": 8}, "Unknown option 'batchsize'. Did you mean 'batch_size'"),
        ({"epoch": 8}, "Unknown option 'epoch'. Did you mean 'epochs'"),
        ({"learning_rate": 1}, "Unknown option 'learning_rate'"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"lr": 0.0}, "learning rate must be positive, got 0"),
        ({"lr": -1.0}, "learning rate must be positive"),
        ({"cut": "stage9"}, "Unknown stage 'stage9'. Did you mean 'stage"),
        ({"cut": 99}, "The cut must be from 0 to 5, got 99"),
        ({"cut": -1}, "The cut must be from 0 to 5, got -1"),
        ({"valid": 1.5}, "validation share must be between 0 and 1, got 1.5"),
        ({"valid": "nowhere"}, "'nowhere' does not exist"),
        ({"resume": True}, "resume=True needs run_dir="),
        ({"precision": "fp16"}, "precision must be fp32, bf16 or auto"),
        ({"solver": "lbfgs", "cut": "stage1"}, "solver='lbfgs' trains one Dense layer"),
        ({"patience": 2, "valid": None}, "patience=2 needs validation images"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: dict[str, Any], says: str, model: pft.Classifier, folder: Path
) -> None:
    with pytest.raises(InputError, match=says):
        model.fit(folder, **options)


def test_a_precision_asked_for_in_training_is_the_networks_from_then_on(
    model: pft.Classifier, folder: Path
) -> None:
    network, before = model.network, tensors(model)
    model.fit(folder, epochs=1, lr=1e-12, precision="auto")
    assert model.network is network  # it has that precision
    model.fit(folder, cut="stage2", epochs=1, lr=1e-12, precision="fp32")
    assert model.network is not network
    assert model.plan.precision == "fp32"
    np.testing.assert_array_equal(tensors(model)["conv1.weight"], before["conv1.weight"])
    changed = model.network
    model.fit(folder, epochs=1)
    assert model.network is changed


def test_an_interrupted_run_resumes(net: pft.Classifier, folder: Path, tmp_path: Path) -> None:
    def press(record: Any) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    whole = net.with_head(CLASSES)
    wanted = whole.fit(folder, cut="stage1", epochs=4)
    part = net.with_head(CLASSES).fit(
        folder, cut="stage1", epochs=4, run_dir=tmp_path / "run", watcher=Notes(press)
    )
    assert part.stopped == "interrupted"
    model = net.with_head(CLASSES, seed=5)  # the head's start does not matter: the run has it
    run = model.fit(folder, cut="stage1", epochs=4, run_dir=tmp_path / "run", resume=True)
    assert timeless(run) == timeless(wanted)
    assert_same(tensors(model), tensors(whole))


def test_an_image_seen_to_be_readable_is_not_decoded_again_unless_the_limit_falls(
    model: pft.Classifier, folder: Path
) -> None:
    model.fit(folder, epochs=1)
    path = folder / "red" / "000.png"
    with pytest.raises(DataError, match="files cannot be read"):
        model.fit(folder, epochs=1, max_pixels=100)
    path.write_bytes(path.read_bytes()[:100])  # a changed file is looked at again
    (folder / "blue" / "001.png").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 24 files cannot be read") as refusal:
        model.fit(folder, epochs=1)
    assert str(path) in str(refusal.value)


# --- the recipe -----------------------------------------------------------------------------------


def test_without_options_the_recipe_is_followed(
    model: pft.Classifier, folder: Path, tmp_path: Path
) -> None:
    notes = Notes()
    run = model.fit(folder, quality="head", watcher=notes)
    assert notes.lines[:2] == [
        "engine: fake (asked for)",
        "24 images of 3 classes to train, 0 to validate",
    ]
    assert run.estimate is not None
    assert notes.records == []
    assert (len(run.records), run.best.valid_accuracy) == (1, run.estimate.accuracy)
    assert next(run.outcome()) == f"finished; {run.estimate.sentence()}"
    assert model.temperature == run.temperature != 1
    bundle = checkpoint.read(model.save(tmp_path / "m.safetensors"))
    assert bundle.temperature == run.temperature
    assert bundle.info["training"]["recipe"] == {
        "estimate": run.estimate.to_json(), "temperature": run.temperature,
    }  # fmt: skip


def test_deeper_ways_are_tried_unless_told_otherwise(net: pft.Classifier, folder: Path) -> None:
    notes = Notes()
    run = net.with_head(CLASSES).fit(folder, watcher=notes)
    assert any(title.startswith("trying from stage2") for title in notes.bars)
    assert net.with_head(CLASSES).fit(folder, quality="good").estimate == run.estimate


def test_photos_that_a_trunk_may_know_are_told(model: pft.Classifier, folder: Path) -> None:
    notes, told = Notes(), "the trunk was trained before: were it on these photos, they flatter it"
    model.fit(folder, quality="head", watcher=notes)
    model.fit(folder, quality="head", watcher=notes)
    assert told not in notes.lines
    model.fit(folder, cut="stage2", epochs=1)
    model.fit(folder, quality="head", watcher=notes)
    assert told in notes.lines


def test_a_search_goes_on_in_its_run_folder(
    net: pft.Classifier, folder: Path, tmp_path: Path
) -> None:
    kept, first, notes = tmp_path / "run", Notes(), Notes()
    run = net.with_head(CLASSES).fit(folder, run_dir=kept, watcher=first)
    assert any(title.startswith("trying") for title in first.bars)
    with pytest.raises(InputError, match="holds a run already"):
        net.with_head(CLASSES).fit(folder, run_dir=kept)
    again = net.with_head(CLASSES).fit(folder, run_dir=kept, resume=True, watcher=notes)
    assert again.estimate == run.estimate
    assert not any(title.startswith("trying") for title in notes.bars)
    with pytest.raises(InputError, match="resume=True needs run_dir="):
        net.with_head(CLASSES).fit(folder, resume=True)


def test_minutes_bound_the_trials(model: pft.Classifier, folder: Path) -> None:
    notes = Notes()
    run = model.fit(folder, quality="best", minutes=0, watcher=notes)
    assert run.estimate is not None
    assert run.estimate.deeper is None
    assert "from stage2 is left out: the time is up" in notes.lines


@pytest.mark.parametrize("options", [{"quality": "head"}, {"minutes": 3}])
def test_quality_and_steps_exclude_each_other(
    options: dict[str, Any], model: pft.Classifier, folder: Path
) -> None:
    with pytest.raises(InputError, match="leave them out, or the options of steps"):
        model.fit(folder, epochs=1, **options)


def test_a_deeper_cut_starts_from_a_solved_head_once(net: pft.Classifier, folder: Path) -> None:
    solved, model = net.with_head(CLASSES), net.with_head(CLASSES)
    notes = Notes()
    run = model.fit(folder, valid=None, cut="stage2", epochs=1, lr=1e-12, watcher=notes)
    solved.fit(folder, quality="head")
    assert "deeper steps start from a solved head" in notes.lines
    for name, value in tensors(solved).items():
        np.testing.assert_allclose(tensors(model)[name], value, atol=1e-6)
    assert run.estimate is None
    again = Notes()
    model.fit(folder, cut="stage2", epochs=1, watcher=again)
    assert "deeper steps start from a solved head" not in again.lines


def test_fine_tuning_solves_a_new_head_and_trains_one_that_it_cannot(
    net: pft.Classifier, folder: Path
) -> None:
    def phases(model: pft.Classifier) -> list[int]:
        model.fine_tune(folder, epochs=2)
        return [phase["epochs"] for phase in model.info["training"]["phases"]]

    model = net.with_head(CLASSES)
    assert phases(model) == [2]
    assert phases(model) == [3, 2]
    assert phases(net.with_head(CLASSES, hidden=[4])) == [3, 2]


def test_the_temperature_divides_logits_wherever_there_are_probabilities(
    model: pft.Classifier, folder: Path, tmp_path: Path
) -> None:
    model.fit(folder)
    model.temperature = 3.0
    loaded = pft.load(model.save(tmp_path / "m.safetensors"), engine="fake")
    assert loaded.temperature == 3.0
    assert loaded.evaluate(folder) == model.evaluate(folder)
    assert loaded.predict(folder) == model.predict(folder)
    images = np.stack([load_image(path, model.preprocessing) for path in folder.rglob("*.png")])
    logits = model.network.logits(model.network.embed(images)) / 3
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, answer in zip(wanted, model.predict(images), strict=True):
        assert answer.probability == pytest.approx(row.max(), abs=1e-5)
    mild = model.evaluate(folder)
    model.temperature = 1.0
    sharp = model.evaluate(folder)
    assert (mild.confusion, mild.log_loss > sharp.log_loss) == (sharp.confusion, True)


def test_after_steps_the_temperature_is_1_again(model: pft.Classifier, folder: Path) -> None:
    model.fit(folder)
    assert model.temperature != 1
    run = model.fit(folder, cut="stage2", epochs=1, lr=1e-12)
    assert model.temperature == run.temperature == 1
    assert run.estimate is None
    assert model.with_head(["a", "b"]).temperature == 1


@pytest.mark.parametrize(
    "options",
    [{"epochs": 5}, {"lr": 1e-3}, {"cut": "head"}, {"valid": 0.2}, {"augment": "none"},
     {"views": 0}, {"solver": "steps"}, {"weight_decay": 0.01}, {"patience": 9},
     {"freeze_bn": True}],
)  # fmt: skip
def test_each_option_of_steps_takes_the_steps_there_were(
    options: dict[str, Any], net: pft.Classifier, folder: Path
) -> None:
    wanted = net.with_head(CLASSES)
    told = wanted.fit(folder, valid=0.2, cut="head", epochs=5, lr=1e-3)
    model = net.with_head(CLASSES)
    assert timeless(model.fit(folder, **options)) == timeless(told)
    assert_same(tensors(model), tensors(wanted))


@pytest.mark.parametrize("head", [{"hidden": [4]}, {"dropout": 0.2}])
def test_a_head_of_more_than_one_layer_takes_steps_and_says_so(
    head: dict[str, Any], net: pft.Classifier, folder: Path
) -> None:
    notes = Notes()
    run = net.with_head(CLASSES, **head).fit(folder, watcher=notes)
    assert notes.lines[0] == "the head is more than one Dense layer, so it is trained by steps"
    assert (len(run.records), run.estimate) == (5, None)


def test_what_changes_no_steps_leaves_the_recipe(
    model: pft.Classifier, folder: Path, tmp_path: Path
) -> None:
    valid = photos.write(tmp_path / "valid", {"blue": 2, "green": 3, "red": 4}, seed=50)
    notes = Notes()
    run = model.fit(
        folder, valid=valid, label_smoothing=0.1, class_weights="auto", batch_size=4, seed=2,
        workers=1, max_pixels=10_000, cache=False, watcher=notes,
    )  # fmt: skip
    assert run.estimate is not None
    assert notes.lines[1] == "24 images of 3 classes to train, 9 to validate"
    assert notes.lines[-1].startswith("on 9 validation images: accuracy ")
    assert model.fit(folder, valid=None).estimate is not None


# --- prediction, evaluation, features -------------------------------------------------------------


def test_predicting_an_unreadable_image_raises(model: pft.Classifier, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"x\.jpg"):
        model.predict(tmp_path / "x.jpg")


def test_evaluation_is_that_of_the_probabilities(model: pft.Classifier, folder: Path) -> None:
    paths = sorted(folder.rglob("*.png"))
    images = np.stack([load_image(path, model.preprocessing) for path in paths])
    labels = np.array([CLASSES.index(path.parent.name) for path in paths])
    wanted = evaluate(probabilities(model.network, images), labels, CLASSES)
    for batch_size in (1, 5, 100):
        found = model.evaluate(folder, batch_size=batch_size)
        assert found.confusion == wanted.confusion
        assert found.log_loss == pytest.approx(wanted.log_loss)


def test_evaluation_names_what_it_left_out(model: pft.Classifier, tmp_path: Path) -> None:
    folder = photos.write(tmp_path / "many", {"blue": 20, "green": 20, "red": 20})
    (folder / "red" / "notes.jpg").write_text("no image")
    notes = Notes()
    assert model.evaluate(folder, watcher=notes).count == 60
    assert notes.bars == {"scanning": [61], "evaluation": [60]}
    assert len(notes.lines) == 1
    assert "notes.jpg" in notes.lines[0]


@pytest.mark.parametrize(
    ("cut", "shape"), [("head", (16,)), ("stage2", (12, 8, 8)), (0, (3, 8, 8))]
)
def test_features_are_what_enters_the_cut(
    cut: Any, shape: tuple[int, ...], net: pft.Classifier, folder: Path
) -> None:
    before = net.network.cut
    found, labels, paths = net.features(folder, cut=cut)
    assert found.shape == (24, *shape)
    assert net.network.cut == before
    assert labels == [Path(path).parent.name for path in paths]
    image = load_image(paths[5], net.preprocessing)[None]
    stop = 0 if cut == 0 else 2 if cut == "stage2" else 5
    np.testing.assert_allclose(found[5:6], net.network.apply(image, 0, stop), rtol=1e-5, atol=1e-6)


def test_features_and_training_share_the_cache(model: pft.Classifier, folder: Path) -> None:
    model.features(folder)
    notes = Notes()
    model.fit(folder, epochs=1, watcher=notes)
    assert "training features: 18 of 18 from the feature cache" in notes.lines


# --- saving ---------------------------------------------------------------------------------------


def test_a_bundle_tells_how_it_was_made(
    model: pft.Classifier, folder: Path, tmp_path: Path
) -> None:
    model.fit(folder, cut="stage2", epochs=2, lr=1e-2, augment=["flip"], class_weights="auto")
    bundle = checkpoint.read(model.save(tmp_path / "m.safetensors"))
    assert bundle.cut == 2
    assert bundle.preprocessing == fake.TINY.preprocessing
    assert bundle.info["engine"] == "fake"
    assert bundle.info["versions"]["pyflux-transfer"] == pft.__version__
    training = bundle.info["training"]
    assert training["images"] == 18
    assert training["options"]["augment"] == "flip"
    assert training["phases"] == [{"cut": 2, "epochs": 2, "lr": 1e-2}]
    assert training["best"]["valid_loss"] > 0
    json.dumps(bundle.info)
    again = pft.load(tmp_path / "m.safetensors", engine="fake").save(tmp_path / "n.safetensors")
    assert checkpoint.read(again).info["training"] == training


@pytest.mark.parametrize("name", ["m", "m.pth", "m.safetensors.bak"])
def test_a_bundles_name_says_what_it_is(name: str, model: pft.Classifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        model.save(tmp_path / name)


def test_an_unfinished_bundle_cannot_be_loaded(model: pft.Classifier, tmp_path: Path) -> None:
    path = model.save(tmp_path / "m.safetensors")
    shutil.copy(path, tmp_path / "half.safetensors")
    with (tmp_path / "half.safetensors").open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(PyFluxTransferError, match="cut short"):
        pft.load(tmp_path / "half.safetensors", engine="fake")


def test_a_size_that_cannot_be_is_refused_before_weights_are_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("pyflux_transfer.loading.engines.pretrained", asked)
    with pytest.raises(InputError, match="size must be a whole number from 1 to"):
        pft.load("resnet18", size=100_000, engine="torch")
    with pytest.raises(InputError, match="multiples of 16, got 100 × 100"):
        pft.load("vit_b_16", size=100, engine="torch")


@pytest.mark.parametrize("batch_size", [0, -1, 1.5])
def test_an_outline_needs_a_batch_that_can_be(batch_size: float) -> None:
    net = pft.load("tiny", engine="fake")
    for show in (net.outline, net.summary):
        with pytest.raises(InputError, match="batch_size must be a whole number of at least 1"):
            show(batch_size=batch_size)
