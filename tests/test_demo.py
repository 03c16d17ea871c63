from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import pytest

from pyflux_transfer import bundle as checkpoint
from pyflux_transfer import demo
from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.data.dataset import scan
from pyflux_transfer.errors import InputError


@pytest.mark.usefixtures("fake_engine")
def test_the_demo_tells_what_it_measured_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "IMAGES_A_CLASS", 4)
    folder = tmp_path / "the demo"
    demo.run(folder, "fake", "tiny")
    out = capsys.readouterr().out
    bundle = folder / "digits.safetensors"
    measured = load(bundle, engine="fake").evaluate(folder / "digits-test")
    assert f"{measured.accuracy:.1%} with deeper stages" in out
    assert re.search(r"finished; cross-validated accuracy \d+\.\d ± \d+\.\d %", out)
    assert re.search(r"accuracy on 40 unseen digits: \d+\.\d%", out)
    assert "80 photos of handwritten digits" in out
    assert "1. The head" in out
    assert "trying from stage2: " in out
    for command in ("evaluate", "predict", "serve"):
        assert f"  pyflux-transfer {command} '{bundle}'" in out
    assert checkpoint.describe(bundle).cut == 2
    for digit in (3, 5, 8):
        assert f"digits-test/{digit}/004.png" in out


@pytest.mark.usefixtures("fake_engine")
def test_ctrl_c_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "IMAGES_A_CLASS", 4)
    fit, calls = Classifier.fit, []

    def pressed(model: Classifier, *given: Any, **options: Any) -> Any:
        calls.append(options)
        watcher = options["watcher"]
        watcher.epoch = watcher.bar = _press
        return fit(model, *given, **options)

    monkeypatch.setattr(Classifier, "fit", pressed)
    with pytest.raises(KeyboardInterrupt):
        demo.run(tmp_path, "fake", "tiny")
    assert len(calls) == 1


def _press(*_: Any) -> None:
    raise KeyboardInterrupt


def test_the_digits_are_written_as_image_folders_without_overlap(tmp_path: Path) -> None:
    count = demo.write_digits(tmp_path / "train", tmp_path / "test")
    train, test = scan(tmp_path / "train").train, scan(tmp_path / "test").train
    assert count == len(train.samples) + len(test.samples) == 1200
    assert set(train.counts.values()) == set(test.counts.values()) == {60}
    assert train.classes == tuple("0123456789")
    assert not {s.digest for s in train.samples} & {s.digest for s in test.samples}
    assert demo.write_digits(tmp_path / "train", tmp_path / "test") == count


def test_without_scikit_learn_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *given)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'pyflux-transfer\[demo\]'"):
        demo.write_digits(tmp_path / "train", tmp_path / "test")
