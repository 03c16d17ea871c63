from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer import bundle as checkpoint
from pyflux_transfer import predict
from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.cli import train as cli_train
from pyflux_transfer.cli.app import main
from pyflux_transfer.data.dataset import Skipped
from pyflux_transfer.errors import EngineError
from pyflux_transfer.networks.weights import published
from pyflux_transfer.predict import Prediction
from pyflux_transfer.serving import client
from pyflux_transfer.training.options import Options
from tests import photos
from tests.broken import BROKEN, one_image
from tests.engines import fake
from tests.faults import fails_third

pytestmark = pytest.mark.usefixtures("fake_engine")

TINY = ("--arch", "tiny", "--engine", "fake")
ANSI = re.compile(r"\x1b|\r")


class Outcome:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err
        self.lines = out.splitlines()

    def refused(self, status: int = 2) -> str:
        """Return the one line that an error is."""
        assert self.status == status, (self.out, self.err)
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Outcome(int(end.value.code or 0), out, err)

    return call


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def folder(place: Path) -> Path:
    return photos.write(place / "my.photos", {"blue": 8, "green": 8, "red": 8})


@pytest.fixture
def bundle(place: Path, folder: Path) -> Path:
    model = load("tiny", engine="fake").with_head(["blue", "green", "red"])
    model.fit(folder, solver="lbfgs", weight_decay=1e-5)
    return model.save(place / "model.safetensors")


def process(*words: object, **options: Any) -> subprocess.Popen[str]:
    """Start the command line as a process of its own, the NumPy engine among its engines."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.fake_cli", *map(str, words)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        **options,
    )  # fmt: skip


def ended(one: subprocess.Popen[str], timeout_s: float = 60) -> Outcome:
    with one:
        out, err = one.communicate(timeout=timeout_s)
    return Outcome(one.returncode, out, err)


# --- usage ----------------------------------------------------------------------------------------


def test_no_arguments_and_help_show_the_commands(run: Run) -> None:
    for words in ((), ("--help",)):
        found = run(*words)
        assert found.status == 0
        for command in (
            "train",
            "compare",
            "evaluate",
            "predict",
            "summary",
            "features",
            "models",
            "cache",
        ):
            assert f" {command} " in found.out


@pytest.mark.parametrize(
    "command",
    ["train", "compare", "evaluate", "predict", "summary", "features", "models", "cache", "demo",
     "doctor", "setup"],
)  # fmt: skip
def test_every_command_has_help(command: str, run: Run) -> None:
    found = run(command, "--help")
    assert found.status == 0
    assert "Usage" in found.out


def test_the_version(run: Run) -> None:
    assert run("--version").lines[0].startswith("pyflux-transfer 0.")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["train"], "Missing argument 'DATA'"),
        (["train", "x", "--epoch", "3"], "There is no option --epoch. Did you mean '--epochs'?"),
        (["train", "x", "--epochs", "three"], "--epochs must be a whole number, got 'three'"),
        (["train", "x", "--keep", "all"], "--keep must be one of hidden, classifier, got 'all'"),
        (["predict"], "Missing argument 'BUNDLE PHOTOS'"),
        (["cache", "--size"], "There is no option --size."),
        (["serve", "--colour"], "There is no option --colour."),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], says: str, run: Run) -> None:
    line = run(*words).refused()
    assert says in line
    command = "" if words == ["trian"] else f"{words[0]} "
    assert line.endswith(f" See: pyflux-transfer {command}--help")


# --- train ----------------------------------------------------------------------------------------


def test_training_saves_a_bundle_named_after_the_folder(run: Run, folder: Path) -> None:
    found = run("train", folder, *TINY, "--epochs", 3)
    assert found.status == 0
    assert found.err == ""
    assert not ANSI.search(found.out)
    assert found.lines[0] == "engine: fake (asked for)"
    assert re.match(r"scanning: 24 images in \d", found.lines[1])
    assert found.lines[2] == "18 images of 3 classes to train, 6 to validate"
    assert [line.split()[1] for line in found.lines if line.startswith("epoch")] == [
        "1/3", "2/3", "3/3",
    ]  # fmt: skip
    assert re.search(r"training features: 18 images in .* s \(\d+/s\)", found.out)
    assert re.search(r"^finished; best epoch \d, validation accuracy", found.out, re.MULTILINE)
    assert found.lines[-1] == "saved my.photos.safetensors"
    assert checkpoint.read("my.photos.safetensors").classes == ("blue", "green", "red")


def test_a_second_run_takes_its_features_from_the_cache(run: Run, folder: Path) -> None:
    first, second = (run("train", folder, *TINY, "--epochs", 2) for _ in range(2))
    assert "training features: 18 of 18 from the feature cache" in second.lines
    (time,) = (line for line in second.lines if line.startswith("time: "))
    assert "trunk" not in time
    assert "decode" not in time

    def epochs(found: Outcome) -> list[str]:
        return [line.rsplit("  ", 1)[0] for line in found.lines if line.startswith("epoch")]

    assert epochs(first) == epochs(second)


def test_a_table_names_the_bundle_too(run: Run, folder: Path) -> None:
    rows = [f"{p.relative_to(folder)},{p.parent.name}" for p in sorted(folder.rglob("*.png"))]
    (folder / "labels.v2.csv").write_text("\n".join(["path,label", *rows]))
    assert run("train", folder / "labels.v2.csv", *TINY).lines[-1] == "saved labels.v2.safetensors"


def test_quiet_prints_nothing(run: Run, folder: Path, place: Path) -> None:
    found = run("train", folder, *TINY, "--quiet", "--out", place / "a" / "b.safetensors")
    assert (found.status, found.out, found.err) == (0, "", "")
    assert (place / "a" / "b.safetensors").is_file()


def test_every_option_of_training_can_be_given() -> None:
    """By its name, with the same default; class weights as a switch."""
    parameters = inspect.signature(cli_train.train).parameters
    for field in fields(Options):
        if field.name not in ("class_weights", "precision"):
            assert parameters[field.name].default == field.default, field.name


def test_the_options_arrive(run: Run, folder: Path) -> None:
    given = {
        "optimizer": "sgd", "lr_decay": 0.5, "schedule": "step", "weight_decay": 0.1,
        "momentum": 0.5, "label_smoothing": 0.1, "augment": "flip", "views": 2, "batch_size": 5,
        "seed": 3, "patience": 7, "freeze_bn": False, "solver": "steps", "workers": 1,
        "max_pixels": 1000, "max_skipped": 0.25,
    }  # fmt: skip
    words: list[Any] = []
    for name, value in given.items():
        option = name.replace("_", "-")
        words += [f"--no-{option}"] if value is False else [f"--{option}", value]
    found = run(
        "train", folder, *TINY, "--epochs", 2, "--lr", 0.5, "--cut", "stage2", "--balance",
        "--hidden", 6, "--hidden", 4, "--dropout", 0.25, "--valid", 0.5, *words,
    )  # fmt: skip
    assert found.status == 0, found.err
    made = checkpoint.read("my.photos.safetensors")
    assert made.info["training"]["options"] == {
        **given, "class_weights": "auto", "precision": None,
    }  # fmt: skip
    assert made.info["training"]["phases"] == [{"cut": 2, "epochs": 2, "lr": 0.5}]
    assert made.head is not None
    assert (made.head.hidden, made.head.dropout) == ((6, 4), 0.25)
    assert "12 images of 3 classes to train, 12 to validate" in found.lines


@pytest.mark.parametrize(("cut", "index"), [("stage1", 1), ("2", 2), ("0", 0)])
def test_a_cut_is_a_stage_or_a_unit(cut: str, index: int, run: Run, folder: Path) -> None:
    assert run("train", folder, *TINY, "--cut", cut, "--epochs", 1).status == 0
    assert checkpoint.describe("my.photos.safetensors").cut == index


def test_fine_tuning_in_phases(run: Run, folder: Path) -> None:
    run("train", folder, *TINY, "--fine-tune", 2, "--freeze-epochs", 1, "--epochs", 2)
    phases = checkpoint.describe("my.photos.safetensors").info["training"]["phases"]
    assert [phase["lr"] for phase in phases] == [1e-3, 1e-4, 1e-4]


def test_without_options_all_photos_train_and_folds_judge(run: Run, folder: Path) -> None:
    found = run("train", folder, *TINY, "--seed", 1, "--batch-size", 5)
    assert found.status == 0, found.err
    assert found.lines[2] == "24 images of 3 classes to train, 0 to validate"
    assert any(line.startswith("trying from stage2: ") for line in found.lines)
    made = checkpoint.read("my.photos.safetensors")
    told = made.info["training"]["recipe"]
    assert made.temperature == told["temperature"]
    accuracy = f"cross-validated accuracy {told['estimate']['accuracy']:.1%}"[:-1]
    assert any(line.startswith(f"finished; {accuracy} ± ") for line in found.lines)


@pytest.mark.parametrize(
    "words",
    [("--epochs", 5), ("--lr", 1e-3), ("--cut", "head"), ("--valid", 0.2), ("--solver", "steps"),
     ("--optimizer", "adamw"), ("--weight-decay", 0.01), ("--patience", 9), ("--hidden", 4)],
)  # fmt: skip
def test_an_option_of_steps_takes_steps_even_with_its_default(
    words: tuple[Any, ...], run: Run, folder: Path
) -> None:
    found = run("train", folder, *TINY, *words)
    assert found.status == 0, found.err
    assert "18 images of 3 classes to train, 6 to validate" in found.lines
    assert checkpoint.describe("my.photos.safetensors").info["training"]["phases"] == [
        {"cut": checkpoint.describe("my.photos.safetensors").cut, "epochs": 5, "lr": 1e-3}
    ]


@pytest.mark.parametrize(("valid", "count"), [("none", 0), ("0", 0), ("folder", 9), ("0.5", 12)])
def test_validation_images(valid: str, count: int, run: Run, folder: Path, place: Path) -> None:
    if valid == "folder":
        valid = str(photos.write(place / "v", {"blue": 2, "green": 3, "red": 4}, seed=50))
    found = run("train", folder, *TINY, "--epochs", 1, "--valid", valid)
    assert any(line.endswith(f" to train, {count} to validate") for line in found.lines)


def test_a_bundle_goes_on_with_its_own_head(run: Run, folder: Path, bundle: Path) -> None:
    words = ("--arch", bundle, "--engine", "fake", "--lr", "1e-12", "--epochs", 1)
    run("train", folder, *words, "--cut", "stage2", "--out", "more.safetensors")
    before, after = checkpoint.read(bundle), checkpoint.read("more.safetensors")
    np.testing.assert_allclose(
        before.state["classifier.weight"], after.state["classifier.weight"], atol=1e-6
    )
    run("train", folder, *words, "--hidden", 4, "--out", "new.safetensors")
    head = checkpoint.read("new.safetensors").head
    assert head is not None
    assert head.hidden == (4,)


def test_a_bundle_gets_a_new_head_for_other_classes(run: Run, bundle: Path, place: Path) -> None:
    other = photos.write(place / "two", {"blue": 4, "red": 4})
    run("train", other, "--arch", bundle, "--engine", "fake", "--epochs", 1)
    assert checkpoint.read("two.safetensors").classes == ("blue", "red")


def test_a_run_is_kept_and_resumed(run: Run, folder: Path) -> None:
    words = ("train", folder, *TINY, "--epochs", 3, "--run-dir", "run")
    run(*words)
    assert "--resume" in run(*words).refused()
    again = run(*words, "--resume")
    assert again.status == 0
    assert "holds a run" not in again.err
    assert not any(line.startswith("epoch") for line in again.lines)
    assert "made with phases 1 --epochs 3, now it is 4" in (
        run(*words[:-3], 4, "--run-dir", "run", "--resume").refused()
    )


def test_the_history_is_drawn(run: Run, folder: Path) -> None:
    found = run("train", folder, *TINY, "--epochs", 2, "--plot", "history.svg")
    assert found.lines[-1] == "drawn history.svg"
    assert Path("history.svg").read_text().startswith("<?xml")


def test_skipped_images_are_named(run: Run, place: Path) -> None:
    folder = photos.write(place / "many", {"blue": 20, "red": 20})
    (folder / "red" / "notes.jpg").write_text("no image")
    found = run("train", folder, *TINY, "--epochs", 1)
    assert any(line.startswith("skipped ") and "notes.jpg" in line for line in found.lines)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--arch", "tinny"], "Unknown architecture 'tinny'. Did you mean 'tiny'"),
        (["--engine", "fakes"], "Unknown engine 'fakes'. Did you mean 'fake'"),
        (["--cut", "haed"], "Unknown stage 'haed'. Did you mean 'head'"),
        (["--cut", "99"], "The cut must be from 0 to 5, got 99"),
        (["--cut", "-1"], "The cut must be from 0 to 5, got -1"),
        (["--optimizer", "adamx"], "Unknown optimizer 'adamx'. Did you mean 'adam"),
        (["--schedule", "onecycle"], "Did you mean 'one-cycle'"),
        (["--solver", "lbgfs"], "Did you mean 'lbfgs'"),
        (["--augment", "flop"], "Unknown augmentation 'flop'. Did you mean 'flip'"),
        (["--epochs", "0"], "--epochs must be at least 1, got '0'"),
        (["--lr", "0"], "The learning rate must be positive, got 0"),
        (["--lr", "nan"], "The learning rate must be positive, got nan"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got '0'"),
        (
            ["--patience", "2", "--valid", "none"],
            "--patience 2 needs validation images, there are none. Give some with --valid,",
        ),
        (
            ["--views", "3"],
            "--views 3 needs an augmentation, got --augment none. Use --augment light",
        ),
        (["--solver", "lbfgs", "--cut", "stage1"], "--solver lbfgs trains one Dense layer"),
        (["--fine-tune", "9"], "--fine-tune must be from 1 to 3, got 9"),
        (["--fine-tune", "1", "--cut", "stage1"], "--fine-tune chooses the cuts itself"),
        (["--valid", "nowhere"], "'nowhere' does not exist. --valid takes"),
        (["--valid", "1.5"], "validation share must be between 0 and 1, got 1.5"),
        (["--out", "model.pth"], "--out must name a .safetensors file, got 'model.pth'"),
        (["--out", "."], "--out must name a .safetensors file"),
        (["--plot", "history.doc"], "A plot's name must end in"),
        (["--weights", "nowhere.pth"], "No such file: nowhere.pth"),
        (["--resume"], "--resume needs --run-dir, the folder"),
        (["--dropout", "1"], "--dropout must be in [0, 1)"),
        (["--keep", "hidden"], "--keep hidden needs a classifier with hidden Dense layers"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    words: list[str], says: str, run: Run, folder: Path, place: Path
) -> None:
    found = run("train", folder, *TINY, *words)
    assert says in found.refused()
    assert not any(line.startswith("epoch") for line in found.lines)
    assert list(place.glob("*.safetensors")) == []


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["train", "evaluate", "features"])
def test_data_that_cannot_be_used_is_one_line(
    make: Callable[[Path], Path], command: str, run: Run, place: Path
) -> None:
    data = make(place / "broken")
    words: tuple[Any, ...] = (*TINY, "--out", place / "out.safetensors")
    if command == "train":
        words = (*words, "--epochs", 1)
    if command == "evaluate":
        model = load("tiny", engine="fake").with_head(["blue", "green", "red"])
        words = ("--engine", "fake")
        data = (model.save(place / "m.safetensors"), data)  # type: ignore[assignment]
    found = run(command, *(data if isinstance(data, tuple) else (data,)), *words)
    if make is one_image and command != "train":  # only a split needs two
        assert found.status == 0
        return
    line = found.refused()
    if command != "evaluate" or "class" not in BROKEN[make]:
        assert BROKEN[make] in line


def test_a_rate_that_is_too_high_is_named(run: Run, folder: Path, place: Path) -> None:
    with np.errstate(all="ignore"):
        found = run(
            "train", folder, *TINY, "--cut", 0, "--optimizer", "sgd", "--schedule", "constant",
            "--lr", 1e30,
        )  # fmt: skip
    line = found.refused(status=1)
    assert re.search(r"The .*(loss|weights) became .* at the learning rate 1e\+30\. Lower it", line)
    assert list(place.glob("*.safetensors")) == []


def test_a_disk_that_fills_leaves_the_old_bundle_whole(folder: Path, bundle: Path) -> None:
    before = bundle.read_bytes()
    full = process(
        "train", folder, *TINY, "--epochs", 1, "--out", bundle, "--run-dir", "run",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
    )  # fmt: skip
    found = ended(full)
    assert "What was there before is unchanged" in found.refused(status=1)
    assert bundle.read_bytes() == before


# --- Ctrl-C ---------------------------------------------------------------------------------------


def interrupted(*words: object, after: str) -> Outcome:
    """Press Ctrl-C once a line that begins with `after` is there."""
    one = process(*words)
    assert one.stdout is not None
    seen = []
    for line in one.stdout:
        seen.append(line)
        if line.startswith(after):
            break
    one.send_signal(signal.SIGINT)
    # Python drops an interrupt that falls into a finalizer: then one presses again.
    again = threading.Timer(20, one.send_signal, [signal.SIGINT])
    again.start()
    try:
        found = ended(one)
    finally:
        again.cancel()
    return Outcome(found.status, "".join(seen) + found.out, found.err)


def test_ctrl_c_saves_the_best_so_far_and_says_where(folder: Path) -> None:
    found = interrupted(
        "train", folder, *TINY, "--epochs", 100_000, "--cut", "stage1", "--run-dir", "run",
        after="epoch      3/100000",
    )  # fmt: skip
    assert found.status == 130
    assert found.err == ""
    assert found.lines[-1] == "The same command with --resume goes on with it."
    assert found.lines[-2] == "saved my.photos.safetensors"
    best = re.search(r"^interrupted; best epoch (\d+)", found.out, re.MULTILINE)
    assert best
    made = checkpoint.read("my.photos.safetensors")
    assert made.info["training"]["best"]["epoch"] == int(best[1])


def test_ctrl_c_before_there_is_anything_says_so(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Classifier, "fit", pressed)
    found = run("train", folder, *TINY)
    assert found.status == 130
    assert found.err == "interrupted before the first epoch has ended: nothing is saved\n"
    assert not Path("my.photos.safetensors").exists()


# --- size and fit ---------------------------------------------------------------------------------


def test_size_and_fit_go_from_training_into_the_bundle(run: Run, folder: Path) -> None:
    words = (*TINY, "--size", 12, "--fit", "pad")
    assert run("train", folder, *words, "--out", "m.safetensors").status == 0
    found = checkpoint.describe("m.safetensors").preprocessing
    assert (found.resize, found.crop, found.fit) == (15, 12, "pad")
    for command in ("evaluate", "predict"):
        assert run(command, "m.safetensors", folder, "--engine", "fake").status == 0
    again = ("--arch", "m.safetensors", "--engine", "fake", "--fit", "stretch")
    assert run("train", folder, *again, "--out", "n.safetensors").status == 0
    assert checkpoint.describe("n.safetensors").preprocessing == found.sized(fit="stretch")


def test_auto_chooses_a_network_for_the_size(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "present", lambda _: True)
    monkeypatch.setattr("pyflux_transfer.comparison.MODELS", {"tiny": fake.TINY})
    words = ("train", folder, "--arch", "auto", "--engine", "fake", "--size", 12)
    found = run(*words, "--fit", "stretch", "--out", "m.safetensors")
    assert found.status == 0, found.err
    assert "tiny@12" in found.out
    assert checkpoint.describe("m.safetensors").preprocessing.crop == 12


def test_features_of_another_size(run: Run, folder: Path) -> None:
    words = ("features", folder, *TINY, "--out", "f.npz", "--cut", "stage1")
    found = run(*words, "--size", 12, "--fit", "pad")
    assert found.lines[-1] == "saved f.npz: features (24, 8, 12, 12), labels, paths"


def test_a_size_or_fit_that_cannot_be_is_refused_before_the_photos_are_read(
    run: Run, folder: Path
) -> None:
    found = run("train", folder, *TINY, "--size", 0)
    assert "--size must be at least 1, got '0'" in found.refused()
    assert "scanning" not in found.out
    assert run("train", folder, *TINY, "--fit", "padd").status == 2


# --- compare --------------------------------------------------------------------------------------


COMPARE = ("--engine", "fake", "--arch")


def test_networks_are_compared_and_the_line_that_trains_the_best_is_told(
    run: Run, folder: Path
) -> None:
    found = run("compare", folder, *COMPARE, "tiny,tiny=none", "--seed", 2, "--balance")
    assert found.status == 0, found.err
    assert "24 images of 3 classes, 2 networks" in found.err.splitlines()
    assert {line.split()[0] for line in found.lines[:1]} == {"network"}
    assert re.search(r"\btiny\W+\d+\.\d ± \d+\.\d %", found.out)
    (command,) = (line.strip() for line in found.lines if "pyflux-transfer train" in line)
    assert re.fullmatch(
        rf"pyflux-transfer train {folder} --arch tiny( --weights none)? "
        r"--balance --engine fake --seed 2",
        command,
    )
    assert run(*command.split()[1:]).status == 0


def test_sizes_are_compared_and_the_line_trains_at_the_best(run: Run, folder: Path) -> None:
    words = ("compare", folder, *COMPARE, "tiny", "--sizes", "6, 8", "--sizes", 12)
    answer = json.loads(run(*words, "--fit", "pad", "--json").out)
    assert {row["name"] for row in answer["networks"]} == {"tiny@6", "tiny@8", "tiny@12"}
    (best,) = (row["size"] for row in answer["networks"] if row["recommended"])
    line = f"pyflux-transfer train {folder} --arch tiny --size {best} --engine fake --fit pad"
    assert answer["train"] == line
    assert run(*line.split()[1:]).status == 0
    assert "--sizes takes whole numbers" in run(*words, "--sizes", "big").refused()


def test_a_comparison_as_json(run: Run, folder: Path) -> None:
    Path("broken.safetensors").write_bytes(b"no weights")
    found = run("compare", folder, *COMPARE, "tiny", "--arch", "tiny=broken.safetensors", "--json")
    answer = json.loads(found.out)
    good, bad = answer["networks"]
    assert (good["name"], good["error"], good["recommended"]) == ("tiny", None, True)
    assert good["estimate"]["folds"] == 5
    assert (bad["name"], bad["ms"]) == ("tiny=broken.safetensors", None)
    assert "not a readable .safetensors" in bad["error"]
    assert answer["train"] == f"pyflux-transfer train {folder} --arch tiny --engine fake"


def test_where_all_fail_the_table_says_so(run: Run, folder: Path) -> None:
    found = run("compare", folder, *COMPARE, "tiny=gone.pth")
    assert "✗ tiny=gone.pth: No such file: gone.pth." in found.lines
    assert "Train it" not in found.out
    assert found.status == 2
    assert found.err.splitlines()[-1].startswith("error: None of the networks could be judged.")


def test_networks_that_do_not_exist_are_refused_at_once(run: Run, folder: Path) -> None:
    line = run("compare", folder, *COMPARE, "tiny,tinny").refused()
    assert "Unknown architecture 'tinny'. Did you mean 'tiny'?" in line
    assert "--arch needs names" in run("compare", folder, *COMPARE, ",").refused()


def test_training_takes_the_recommended_network(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "present", lambda row: row is fake.TINY.weights[0])
    words = ("train", folder, "--arch", "auto", "--engine", "fake", "--seed", 1)
    found = run(*words)
    assert found.status == 0, found.err
    assert sum(line.startswith("scanning") for line in found.lines) == 1
    assert "training features: 24 of 24 from the feature cache" in found.lines
    said = [line for line in found.lines if "cross-validated accuracy" in line]
    assert len({re.search(r"[\d.]+ ± [\d.]+ %", line)[0] for line in said}) == 1  # type: ignore[index]
    made = checkpoint.read("my.photos.safetensors")
    assert made.architecture == "tiny"
    assert made.info["weights"] == "imagenet1k_v1"
    assert run(*words, "--quiet").out == ""
    assert "Name it, or leave --weights out" in run(*words, "--weights", "none").refused()
    assert "leave --resume out" in run(*words, "--run-dir", "r", "--resume").refused()


def test_a_comparison_tells_once_what_is_odd_and_what_is_left_out(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "present", lambda row: row is fake.TINY.weights[0])
    (folder / "red" / "notes.jpg").write_text("no image")
    (folder / "blue" / "copy.png").write_bytes((folder / "red" / "000.png").read_bytes())
    allowed = ("--max-skipped", 0.1, "--engine", "fake")
    for words in (("compare", folder), ("train", folder, "--arch", "auto")):
        found = run(*words, *allowed)
        assert found.status == 0, found.err
        said = found.out + found.err
        assert said.count("1 photos stand in two classes at once") == 1
        assert said.count("notes.jpg: it is not an image") == 1
        assert said.index("stand in two classes") < said.index("25 images of 3 classes")
    assert "--max-skipped 0.1" in run("compare", folder, *allowed).out


# --- evaluate -------------------------------------------------------------------------------------


def test_evaluation_shows_scores_and_confusion(run: Run, folder: Path, bundle: Path) -> None:
    found = run("evaluate", bundle, folder, "--engine", "fake")
    assert found.status == 0
    assert re.match(r"24 images  accuracy 1?\d\d\.\d%  balanced accuracy", found.out)
    assert any(line.split()[:1] == ["red"] for line in found.lines)
    assert "confusion" in found.out
    assert "evaluation: 24 images" in found.err


def test_evaluation_as_json_is_json_alone(run: Run, folder: Path, bundle: Path) -> None:
    row = json.loads(run("evaluate", bundle, folder, "--json", "--engine", "fake").out)
    assert row["count"] == 24
    assert np.array(row["confusion"]).sum() == 24


def test_classes_that_differ_are_refused_with_both_lists(
    run: Run, bundle: Path, place: Path
) -> None:
    other = photos.write(place / "two", {"blue": 4, "red": 4})
    line = run("evaluate", bundle, other, "--engine", "fake").refused()
    assert "blue, red" in line
    assert "blue, green, red" in line


# --- predict --------------------------------------------------------------------------------------


@pytest.fixture
def answer(run: Run, bundle: Path) -> Run:
    return lambda *words: run("predict", bundle, *words, "--engine", "fake")


def test_predictions_are_a_table(answer: Run, folder: Path) -> None:
    found = answer(folder / "red" / "000.png", folder / "blue")
    assert found.status == 0
    rows = [line for line in found.lines if ".png" in line]
    assert len(rows) == 9
    assert str(folder / "red" / "000.png") in rows[0]
    assert " red " in rows[0]
    assert not ANSI.search(found.out)


def test_predictions_as_json_are_a_line_an_image(answer: Run, folder: Path) -> None:
    rows = [json.loads(line) for line in answer(folder, "--json", "--top", 2).lines]
    assert [row["name"] for row in rows] == [str(path) for path in sorted(folder.rglob("*.png"))]
    assert all(len(row["top"]) == 2 for row in rows)
    assert rows[0]["label"] == rows[0]["top"][0]["label"] == "blue"


def test_predictions_as_csv(answer: Run, folder: Path) -> None:
    odd = folder / 'a, "b".png'
    (folder / "red" / "000.png").rename(odd)
    rows = list(csv.DictReader(io.StringIO(answer(odd, "--csv").out)))
    assert [row["name"] for row in rows] == [str(odd)]
    assert rows[0]["label"] == "red"
    assert 0 < float(rows[0]["probability"]) <= 1
    assert 0 < float(rows[0]["belonging"]) <= 1
    assert rows[0]["sure"] in ("yes", "no")


def test_how_many_are_sure_is_for_the_person_to_say(answer: Run, folder: Path) -> None:
    sure = {}
    for keep in ("0", "0.5", "1"):
        rows = [json.loads(line) for line in answer(folder, "--json", "--keep", keep).lines]
        assert all(0 <= row["belonging"] <= 1 for row in rows)
        sure[keep] = sum(row["sure"] for row in rows)
    assert sure["0"] <= sure["0.5"] <= sure["1"]
    assert sure["0"] < sure["1"]
    assert re.search(r"0\.\d\d (un)?sure", answer(folder).out) or "1.00 sure" in answer(folder).out


def test_unreadable_images_are_named_and_the_rest_is_answered(answer: Run, folder: Path) -> None:
    (folder / "red" / "000.png").write_text("no image")
    found = answer(folder, "--json")
    assert found.status == 2
    assert len(found.lines) == 23
    (line,) = found.err.splitlines()
    assert str(folder / "red" / "000.png") in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Give photos or folders to label after the bundle"),
        (["nowhere.jpg"], "No such file: 'nowhere.jpg'"),
        (["empty"], "The folder 'empty' holds no file"),
        (["my.photos", "--top", "0"], "--top must be at least 1, got '0'"),
        (["my.photos", "--batch-size", "0"], "--batch-size must be at least 1, got '0'"),
        (["my.photos", "--json", "--csv"], "Choose one of --json and --csv"),
        (["my.photos", "--keep", "95"], "must be from 0 to 1, got 95"),
        (["my.photos", "--keep", "0.9", "--url", "http://x"], "--keep is for a bundle"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(words: list[str], says: str, answer: Run) -> None:
    Path("empty").mkdir()
    found = answer(*words)
    assert says in found.refused()
    assert found.out == ""


def test_photos_without_a_bundle_are_told_which_comes_first(run: Run, folder: Path) -> None:
    line = run("predict", folder / "red" / "000.png", folder / "red" / "001.png").refused()
    assert "A bundle's name ends in .safetensors" in line


def test_answers_come_as_they_are_found(
    answer: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there before a fault is not lost."""
    failing = fails_third(predict.answers, EngineError("the engine has stopped"))
    monkeypatch.setattr(predict, "answers", failing)
    found = answer(folder, "--json", "--batch-size", 8)
    assert len(found.lines) == 16
    assert "the engine has stopped" in found.refused(status=1)


def test_a_service_is_asked_for_photos_alone(
    run: Run, folder: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def ask(url: str, files: list[Path], **options: Any) -> Iterator[Any]:
        asked.append((url, files, options))
        yield Prediction("a.png", "red", 0.5, (("red", 0.5),))
        yield Skipped(Path("b.png"), "b.png is no image")

    monkeypatch.setattr(client, "predict", ask)
    monkeypatch.setenv("PYFLUX_API_KEY", "secret")
    found = run("predict", "--url", "http://host:1", folder, "--json", "--top", 2)
    assert found.status == 2
    assert json.loads(found.out)["label"] == "red"
    assert found.err == "b.png is no image\n"
    assert asked == [("http://host:1", [folder], {"top": 2, "key": "secret"})]
    line = run("predict", "--url", "http://host:1", bundle, folder).refused()
    assert "the service has the bundle" in line


@pytest.mark.parametrize("command", ["predict", "evaluate", "summary"])
def test_a_bundle_that_cannot_be_read_is_one_line(
    command: str, run: Run, folder: Path, bundle: Path
) -> None:
    data = [] if command == "summary" else [folder]
    engine = ["--engine", "fake"]
    assert "No such file: none.safetensors" in (
        run(command, "none.safetensors", *data, *engine).refused()
    )
    bundle.write_bytes(bundle.read_bytes()[:-1])
    assert "It may be cut short" in run(command, bundle, *data, *engine).refused()


# --- the rest -------------------------------------------------------------------------------------


def test_summary_of_an_architecture_and_a_bundle(run: Run, bundle: Path) -> None:
    for name in ("tiny", bundle):
        found = run("summary", name, "--engine", "fake")
        assert found.status == 0
        assert any(line.split()[:4] == ["0", "conv1", "conv", "3x8x8"] for line in found.lines)
        assert re.search(r"[\d,]+ parameters, [\d,]+ of them trained from the cut", found.out)
        assert found.out.isascii()


def test_a_summary_with_its_options(run: Run) -> None:
    summary = ("summary", "tiny", "--engine", "fake")
    found = run(*summary, "--depth", 3, "--columns", "output, trainable", "--batch-size", 4)
    assert ["bn1", "4x8x8x8", "False"] in [line.split() for line in found.lines]
    found = run(*summary, "--depth", 1, "--json")
    answer = json.loads(found.out)
    assert [row["name"] for row in answer["rows"]] == ["tiny", "stem", "stage1", "stage2", "head"]
    assert answer["rows"][0]["trainable"] == "Partial"
    assert "--depth must be at most 3, got '4'" in run(*summary, "--depth", 4).refused()
    assert "Unknown column 'outptu'" in run(*summary, "--columns", "outptu").refused()


def test_features_are_written(run: Run, folder: Path) -> None:
    found = run("features", folder, *TINY, "--out", "f.npz", "--cut", "stage2")
    assert found.lines[-1] == "saved f.npz: features (24, 12, 8, 8), labels, paths"
    with np.load("f.npz") as arrays:
        assert arrays["features"].shape == (24, 12, 8, 8)
        assert arrays["features"].dtype == np.float32
        assert set(arrays["labels"]) == {"blue", "green", "red"}
        assert str(folder / "blue" / "000.png") in arrays["paths"]


def test_an_output_that_cannot_be_written_is_told_before_the_work(run: Run, folder: Path) -> None:
    Path("file").write_bytes(b"")
    for words in (("--out", "file/x.safetensors"), ("--out", f"{'x' * 260}.safetensors"),
                  ("--plot", "file/history.svg"), ("--run-dir", "file/run")):  # fmt: skip
        found = run("train", folder, *TINY, *words)
        assert "Cannot write " in found.refused(status=1)
        assert "scanning" not in found.out


def test_a_class_name_cannot_steer_the_terminal(run: Run, place: Path) -> None:
    made = photos.write(place / "odd", {"blue": 4, "red": 4})
    (made / "blue").rename(made / "a\x1b[31m")
    found = run("train", made, *TINY)
    assert "\x1b" not in found.out
    assert "classes: a\\x1b[31m 4, red 4" in found.lines


def test_limits_can_be_moved_wherever_images_are_read(run: Run, folder: Path, bundle: Path) -> None:
    for words in (("train", folder, *TINY), ("evaluate", bundle, folder, "--engine", "fake"),
                  ("compare", folder, *TINY), ("train", folder, *TINY[2:], "--arch", "auto"),
                  ("features", folder, *TINY, "--out", "f.npz")):  # fmt: skip
        for more, says in (((), "--max-skipped"), (("--max-skipped", 0.9), "cannot be read")):
            found = run(*words, "--max-pixels", 9, *more)
            assert found.status == 2
            assert says in found.err.splitlines()[-1]
    found = run("predict", bundle, folder, "--engine", "fake", "--max-pixels", 9)
    assert found.status == 2
    assert "raise max_pixels (--max-pixels)" in found.err


@pytest.mark.parametrize(
    ("error", "says", "status"),
    [
        (OSError(28, "No space left on device", "x"), "refuses: 'x': No space left on device.", 1),
        (MemoryError(), "The memory does not suffice", 1),
        (BrokenPipeError(32, "Broken pipe"), "", 1),
    ],
)
def test_what_the_system_refuses_is_no_fault_of_the_program(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str, status: int
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr("pyflux_transfer.cli.catalog.models", fails)
    found = run("models")
    assert found.status == status
    assert says in found.err
    assert "fault of the program" not in found.err


def test_a_full_disk_behind_stdout_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fake_cli", "models"], stdout=full, text=True,
            stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)}, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: The system refuses: No space left on device.\n"


def test_features_that_cannot_be_written_are_told(run: Run, folder: Path) -> None:
    Path("file").write_bytes(b"")
    found = run("features", folder, *TINY, "--out", "file/where.npz")
    assert "Cannot write file/where.npz: " in found.refused(status=1)
    assert not found.out  # before anything takes time


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_models_fit_the_terminal(width: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    *rows, last = run("models").lines
    assert max(map(len, rows)) <= width
    assert "…" not in re.sub(r"\d…\d", "", "".join(rows))
    assert last.startswith("No room here for: ")


def test_models_as_json_hold_all(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("models", "--json").out)}
    assert rows["resnet50"]["parameters"] == 25_557_032
    assert rows["resnet50"]["stages"][-1] == "head"
    assert rows["resnet50"]["weights"][0]["licence"] == "BSD-3-Clause"


def test_models_are_listed_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = run("models")
    for name in ("resnet50", "wide_resnet101_2", "efficientnet_lite0"):
        assert any(line.startswith(name + " ") for line in found.lines)
    assert "25.6 M" in found.out
    assert "…" not in re.sub(r"\d…\d", "", found.out)
    for stages in ("stem, block1…8, head", "stem, inception3…5, head", "block1…4, head"):
        assert stages in found.out


def test_the_cache_is_listed_and_cleared(run: Run, folder: Path) -> None:
    run("train", folder, *TINY, "--epochs", 1)
    found = run("cache")
    assert any(line.split()[1:3] == ["16", "24"] for line in found.lines)
    cleared = run("cache", "--clear")
    assert re.match(r"freed 0\.0 MiB in .*features", cleared.out)
    assert run("cache").lines[-1].startswith("0.0 MiB in ")
    assert "from the feature cache" not in run("train", folder, *TINY, "--epochs", 1).out


def test_names_are_shown_as_they_are(run: Run, place: Path) -> None:
    """Not as markup or emoji codes."""
    folder = photos.write(place / "odd", {"blue": 4, "red": 4})
    names = {"blue": "[bold]blue[/]", "red": ":smile: [/red"}
    rows = [f"{p.relative_to(folder)},{names[p.parent.name]}" for p in folder.rglob("*.png")]
    (folder / "odd.csv").write_text("\n".join(["path,label", *rows]))
    assert run("train", folder / "odd.csv", *TINY, "--epochs", 1).status == 0
    for words in (
        ("predict", "odd.safetensors", folder / "red"),
        ("evaluate", "odd.safetensors", folder / "odd.csv"),
    ):
        found = run(*words, "--engine", "fake")
        assert found.status == 0
        assert "[bold]blue[/]" in found.out
        assert ":smile: [/red" in found.out


def test_a_name_that_the_encoding_cannot_write_stops_nothing(
    folder: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "red" / "été☀.png"
    (folder / "red" / "000.png").rename(path)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    found = ended(process("predict", bundle, path, "--engine", "fake"))
    assert found.status == 0, found.err
    assert r"\xe9t\xe9\u2600.png" in found.out


# --- errors ---------------------------------------------------------------------------------------


def test_debug_anywhere_shows_the_traceback(run: Run) -> None:
    for words in (("--debug", "summary", "tinny"), ("summary", "tinny", "--debug")):
        found = run(*words)
        assert found.status == 2
        assert "Traceback" in found.err
        assert found.err.splitlines()[-1].startswith("error: Unknown architecture 'tinny'")


def test_a_fault_of_the_program_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr("pyflux_transfer.cli.catalog.models", fault)
    line = run("models").refused(status=1)
    assert line == "error: ZeroDivisionError: first second (a fault of the program; see --debug)"


def test_a_real_process_ends_with_one_line_and_its_status() -> None:
    command = [sys.executable, "-m", "pyflux_transfer", "summary", "resnet5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "error: Unknown architecture 'resnet5'. Did you mean 'resnet50'? "
        "See: pyflux-transfer models\n"
    )


def test_a_reader_that_leaves_is_no_error() -> None:
    with process("models") as one:
        assert one.stdout is not None
        assert one.stderr is not None
        one.stdout.close()
        assert one.stderr.read() == ""


def test_the_real_engine_trains_and_predicts(folder: Path) -> None:
    """The whole way with PyTorch, in processes as a person starts them."""

    def command(*words: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pyflux_transfer", *map(str, words), "--engine", "torch"],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    few = photos.write(folder.parent / "few", {"blue": 3, "red": 3})
    out = command("train", few, "--arch", "squeezenet1_1", "--weights", "none", "--epochs", 1)
    assert out.splitlines()[-1] == "saved few.safetensors"
    rows = command("predict", "few.safetensors", few, "--json").splitlines()
    assert len(rows) == 6


# --- check and next -------------------------------------------------------------------------------


def test_check_tells_what_to_do_and_writes_a_table_and_a_page(run: Run, folder: Path) -> None:
    (folder / "blue" / "moved.png").write_bytes((folder / "red" / "000.png").read_bytes())
    done = run("check", folder, *TINY, "--write-groups", "groups.csv")
    assert done.status == 0, done.err
    assert "What to do first" in done.out
    assert "Copies in two classes: 2 photos in 1 set." in done.out
    assert done.lines[-3:] == ["written check.html", "written check.csv", "written groups.csv"]
    assert "blue/moved.png" in Path("check.csv").read_text("utf-8")
    assert "Copies in two classes" in Path("check.html").read_text("utf-8")
    assert "path,label,split,group" in Path("groups.csv").read_text("utf-8")
    trained = run("train", "groups.csv", *TINY, "--quality", "head", "--out", "m.safetensors")
    assert "24 groups" in trained.out


def test_check_writes_json_and_nothing_that_is_not_wanted(run: Run, folder: Path) -> None:
    done = run("check", folder, *TINY, "--json", "--csv", "none", "--page", "none")
    found = json.loads(done.out)
    assert found["counts"] == {name: {"train": 8} for name in ("blue", "green", "red")}
    assert not list(Path().glob("check.*"))


def test_decisions_are_applied_without_looking_at_photos(run: Run, folder: Path) -> None:
    Path("decisions.csv").write_text("path,decision,new_label\nred/000.png,relabel,blue\n")
    done = run("check", folder, "--apply", "decisions.csv", "--out", "new.csv")
    assert done.out == "written new.csv: 0 photos left out, 1 relabelled\n"
    assert "my.photos/red/000.png,blue,train" in Path("new.csv").read_text("utf-8")
    assert (
        "must name a .csv"
        in run("check", folder, "--apply", "decisions.csv", "--out", "new.txt").refused()
    )
    assert (
        "another table than the data"
        in run("check", "new.csv", "--apply", "decisions.csv", "--out", "new.csv").refused()
    )


def test_without_jinja2_a_page_is_refused_before_anything_takes_time(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    line = run("check", folder, *TINY).refused()
    assert "pip install 'pyflux-transfer[report]'" in line
    assert run("check", folder, *TINY, "--page", "none").status == 0


def test_next_lists_photos_and_sorts_links(run: Run, folder: Path, bundle: Path) -> None:
    new = photos.write(Path("new"), {"blue": 3, "red": 3}, seed=70)
    fake_engine = ("--engine", "fake")
    done = run("next", bundle, new, *fake_engine, "--count", 2, "--csv", "--sort", "sorted")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["order"] for row in rows] == ["1", "2"]
    assert "sorted 6 photos into sorted" in done.err
    assert len(list(Path("sorted").rglob("*.png"))) == 6
    lines = run("next", bundle, new, *fake_engine, "--count", 2, "--json").lines
    assert [json.loads(line)["path"] for line in lines] == [row["path"] for row in rows]
    assert rows[0]["path"] in run("next", bundle, new, *fake_engine, "--known", folder).out
    assert "Choose one of --json and --csv" in run("next", bundle, new, "--json", "--csv").refused()
    assert "--copy belongs to --sort" in run("next", bundle, new, "--copy").refused()


# --- heat maps and the report


def test_heat_maps_are_named_after_their_photos(answer: Run, folder: Path, place: Path) -> None:
    found = answer(folder / "red" / "000.png", folder / "blue" / "000.png", "--explain", "heat")
    assert found.status == 0
    assert sorted(path.name for path in (place / "heat").iterdir()) == ["000-2.png", "000.png"]
    with Image.open(place / "heat" / "000.png") as image:
        assert image.size[0] == image.size[1]


def test_a_service_explains_nothing_from_here(run: Run, folder: Path) -> None:
    said = run("predict", "--url", "http://127.0.0.1:9", folder, "--explain", "heat").refused()
    assert "--url" in said


def test_evaluate_writes_a_line_a_photo(run: Run, bundle: Path, folder: Path) -> None:
    found = run("evaluate", bundle, folder, "--csv", "--engine", "fake")
    rows = list(csv.DictReader(io.StringIO(found.out)))
    assert len(rows) == 24
    assert rows[0]["label"] == "blue"
    run("evaluate", bundle, folder, "--csv", "--json", "--engine", "fake").refused()


def test_a_report_is_one_page(run: Run, bundle: Path, folder: Path, place: Path) -> None:
    found = run("report", bundle, folder, "--engine", "fake")
    assert "written report.html" in found.out
    assert "flatter" not in (place / "report.html").read_text("utf-8")
    run("report", bundle, folder, "--out", "report.pdf", "--engine", "fake").refused()


def test_train_reports_on_what_it_has_learnt(run: Run, folder: Path, place: Path) -> None:
    found = run("train", folder, *TINY, "--weights", "none", "--report", "own.html")
    assert "written own.html" in found.out
    text = (place / "own.html").read_text("utf-8")
    assert "flatter" in text
    assert "cross-validated accuracy" in text


# --- what training refuses before it downloads anything -------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--size", "9999"], "--size must be a whole number from 1 to"),
        (["--quality", "bset"], "Unknown quality 'bset'. Did you mean 'best'?"),
        (["--quality", "best", "--epochs", "3"], "Leave them out, or --epochs."),
        (["--lr", "0"], "The learning rate must be positive"),
        (["--cut", "haed"], "Unknown stage 'haed'. Did you mean 'head'?"),
        (["--keep", "hidden"], "this network has none. Use --hidden 256"),
        (["--fine-tune", "9"], "--fine-tune must be from 1 to 5, got 9"),
        (["--device", "tpu"], "--device must be one of auto, cpu, cuda, got 'tpu'."),
    ],
)
def test_a_wrong_option_is_refused_before_weights_are_had(
    words: list[str], says: str, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("pyflux_transfer.loading.engines.pretrained", asked)
    line = run("train", folder, "--arch", "resnet18", "--engine", "torch", *words).refused()
    assert says in line


def test_a_device_that_is_not_there_is_told_with_what_to_do(run: Run, folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    words = ("--arch", "resnet18", "--engine", "torch", "--device", "cuda")
    line = run("train", folder, *words).refused(status=1)
    assert "--device cuda needs an NVIDIA GPU and a CUDA build of PyTorch" in line


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl"])
def test_predictions_are_kept_and_gone_on_with(
    name: str, run: Run, folder: Path, bundle: Path, place: Path
) -> None:
    (folder / "red" / "notes.jpg").write_text("no image")
    words = ("predict", bundle, folder, "--engine", "fake", "--out", name)
    first = run(*words)
    assert first.status == 2
    assert first.out == ""
    assert first.err.splitlines()[-1] == f"written {name}: 24 answers"
    assert (place / name).read_text().count(".png") == 24
    again = run(*words)
    assert "24 photos answered before in" in again.err
    assert "predicting: 1 image in" in again.err
    (folder / "red" / "notes.jpg").unlink()
    last = run(*words)
    assert (last.status, last.err) == (0, f"24 photos answered before in {name}\n")


def test_an_interrupted_prediction_keeps_what_is_there(
    run: Run, folder: Path, bundle: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predict.predict

    def interrupted(*args: Any, **options: Any) -> Iterator[Any]:
        for number, answer in enumerate(whole(*args, **options)):
            if number == 5:
                raise KeyboardInterrupt
            yield answer

    monkeypatch.setattr(predict, "predict", interrupted)
    words = ("predict", bundle, folder, "--engine", "fake", "--out", "a.csv")
    found = run(*words)
    assert found.status == 130
    assert found.err == "interrupted: a.csv has 5 answers. The same command goes on.\n"
    monkeypatch.setattr(predict, "predict", whole)
    assert run(*words).err.splitlines()[-1] == "written a.csv: 24 answers"
    names = [row["name"] for row in csv.DictReader((place / "a.csv").read_text().splitlines())]
    assert len(names) == len(set(names)) == 24


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "a.txt"], "--out must end in .csv or .jsonl, got 'a.txt'."),
        (["--out", "a.csv", "--json"], "Leave --json and --csv out."),
        (["--out", "a.csv", "--url", "http://127.0.0.1:9"], "--out knows answers by their bundle"),
        (["--out", "model.safetensors/a.csv"], "Cannot write model.safetensors/a.csv"),
    ],
)
def test_answers_that_cannot_be_kept_are_refused(
    words: list[str], says: str, run: Run, bundle: Path, folder: Path
) -> None:
    found = run("predict", bundle, folder, "--engine", "fake", *words)
    assert says in found.refused(status=found.status)
    assert found.status in (1, 2)
