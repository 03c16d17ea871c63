from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyflux_transfer import bundle as checkpoint
from pyflux_transfer.data.dataset import Dataset, scan
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.torch import network as torch_engine
from pyflux_transfer.errors import InputError, StorageError, TrainingError
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.tensors import State
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.training import loop, runs
from pyflux_transfer.training.callbacks import Record
from pyflux_transfer.training.features import Cache
from pyflux_transfer.training.plan import Phase, gradual
from pyflux_transfer.training.train import Job, Run, train
from tests import photos
from tests.engines import fake
from tests.faults import fails_third
from tests.training.helpers import (
    CountingNetwork,
    Notes,
    datasets,
    interrupt_after,
    job,
    network,
)

DROPOUT = Head(3, hidden=(6,), dropout=0.3)
Parts = tuple[Dataset, Dataset]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return datasets(tmp_path / "photos")


def phase(cut: str, epochs: int = 4, lr: float = 1e-2) -> Phase:
    return Phase(resolve_cut(network().units, cut), epochs, lr)


def timeless(run: Run) -> list[Record]:
    return [replace(record, seconds=0.0) for record in run.records]


def assert_same(one: State, other: State) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def counting(one: Job) -> CountingNetwork:
    assert isinstance(one.network, CountingNetwork)
    return one.network


def scripted(monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> None:
    """Let validation find these accuracies, one an epoch."""
    coming = iter(accuracies)
    monkeypatch.setattr(loop, "validate", lambda *_: (1.0, next(coming)))


# --- a run ----------------------------------------------------------------------------------------


def test_a_run_learns_and_its_records_tell(parts: Parts) -> None:
    notes = Notes()
    one = job(*parts, phase("stage1", epochs=12, lr=3e-2))
    run = train(one, notes)
    assert run.stopped == "finished"
    assert [record.epoch for record in run.records] == list(range(1, 13))
    assert list(run.records) == notes.records
    assert notes.epochs == 12
    assert run.records[-1].train_loss < 0.6 * run.records[0].train_loss
    assert run.best.valid_accuracy == 1
    assert run.history[0]["train_loss"] == run.records[0].train_loss
    assert {"decode", "trunk", "tail", "validation", "cache"} == set(run.seconds)


def test_the_network_is_left_with_the_best_epochs_weights(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 0.2, 0.9, 0.9, 0.5)
    states: list[State] = []
    one = job(*parts)
    run = train(one, Notes(lambda _: states.append(one.network.state())))
    assert run.best.epoch == 2
    assert_same(one.network.state(), states[1])


def test_without_validation_the_last_epochs_weights_stay(parts: Parts) -> None:
    states: list[State] = []
    one = job(parts[0], None)
    run = train(one, Notes(lambda _: states.append(one.network.state())))
    assert run.best.epoch == 4
    assert run.best.valid_loss is None
    assert_same(one.network.state(), states[-1])


@pytest.mark.parametrize("cut", ["stem", "stage1", "stage2", "head"])
def test_the_trunk_stays_to_the_last_bit_and_the_tail_moves(cut: str, parts: Parts) -> None:
    one = job(*parts, phase(cut), freeze_bn=False)
    before = one.network.state()
    train(one, Notes())
    after = one.network.state()
    frozen = {n for unit in one.network.units[: phase(cut).cut] for n in unit.tensors}
    for name, value in before.items():
        assert np.array_equal(value, after[name]) is (name in frozen), name


@pytest.mark.parametrize("freeze_bn", [False, True])
def test_batch_norm_inside_the_tail_can_be_kept(freeze_bn: bool, parts: Parts) -> None:
    one = job(*parts, phase("stage1"), freeze_bn=freeze_bn)
    before = one.network.state()
    train(one, Notes())
    after = one.network.state()
    assert np.array_equal(before["bn2.running_mean"], after["bn2.running_mean"]) is freeze_bn
    assert not np.array_equal(before["bn2.weight"], after["bn2.weight"])


@pytest.mark.parametrize("cut", ["stem", "stage1", "stage2", "head"])
@pytest.mark.parametrize("epochs", [1, 7])
def test_each_image_passes_the_frozen_trunk_once(cut: str, epochs: int, parts: Parts) -> None:
    one = job(*parts, phase(cut, epochs))
    train(one, Notes())
    passes = counting(one).embedded
    assert len(passes) == sum(len(part.samples) for part in parts)
    assert set(passes.values()) == {1}


def test_each_image_passes_each_phases_trunk_once(parts: Parts) -> None:
    one = job(*parts, *gradual(network().units, 2, 4, 1e-2, 1e-3, depth=2))
    train(one, Notes())
    passes = counting(one).embedded
    assert set(passes.values()) == {3}
    assert passes.total() == 3 * sum(len(part.samples) for part in parts)


@pytest.mark.parametrize("cut", ["stem", "stage2", "head"])
def test_a_second_run_takes_everything_from_the_disk(
    cut: str, parts: Parts, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "kept")
    first, second = (job(*parts, phase(cut), cache=cache) for _ in range(2))
    before, after = train(first, Notes()), train(second, Notes())
    assert counting(second).embedded.total() == 0
    assert timeless(before) == timeless(after)
    assert "decode" not in after.seconds
    assert "trunk" not in after.seconds


def test_rows_read_from_the_file_train_as_those_in_memory(parts: Parts, tmp_path: Path) -> None:
    runs_ = [
        train(job(*parts, phase("stage1"), cache=cache), Notes())
        for cache in (Cache(None), Cache(tmp_path / "kept", 0), Cache(None, 0))
    ]
    assert timeless(runs_[0]) == timeless(runs_[1]) == timeless(runs_[2])


def test_one_seed_is_one_history(parts: Parts) -> None:
    def history(seed: int) -> list[Record]:
        return timeless(train(job(*parts, head=DROPOUT, seed=seed, augment="light"), Notes()))

    assert history(3) == history(3)
    assert history(3) != history(4)


def test_duplicates_across_the_border_and_skipped_files_are_told(tmp_path: Path) -> None:
    folder = photos.write(tmp_path / "photos", {"blue": 8, "green": 8, "red": 8})
    for i in range(2):
        shutil.copy(folder / "red" / "000.png", folder / "red" / f"copy{i}.png")
    (folder / "red" / "notes.jpg").write_text("no image")
    whole = scan(folder).train
    twins = [s for s in whole.samples if s.path.name in ("000.png", "copy0.png", "copy1.png")]
    twins = [s for s in twins if s.path.parent.name == "red"]
    one_part = replace(whole, samples=tuple(s for s in whole.samples if s != twins[0]))
    other = replace(whole, samples=(twins[0], *whole.samples[:3]), skipped=())
    notes = Notes()
    run = train(job(replace(one_part, samples=one_part.samples[3:]), other), notes)
    assert len(run.duplicates) == 1
    assert "1 images stand in both training and validation" in notes.lines[0]
    assert [item.path.name for item in run.skipped] == ["notes.jpg"]


def test_groups_across_the_border_are_told(parts: Parts) -> None:
    one, other = (
        replace(part, samples=tuple(replace(s, group=f"p{i}") for i, s in enumerate(part.samples)))
        for part in parts
    )
    notes = Notes()
    train(job(one, replace(other, samples=other.samples[:2])), notes)
    assert "2 groups stand in both training and validation" in notes.lines[0]
    assert notes.lines[0].endswith("flatters the validation: p0 …")


def test_class_weights_reach_every_step(parts: Parts) -> None:
    def weights_seen(option: Any) -> list[Any]:
        one, seen = job(*parts, class_weights=option), []
        step = one.network.step

        def watched(x: Any, y: Any, rates: Any, weights: Any = None) -> float:
            seen.append(weights)
            return step(x, y, rates, weights)

        one.network.step = watched  # type: ignore[method-assign]
        train(one, Notes())
        return seen

    assert set(weights_seen(None)) == {None}
    counts = np.array(list(parts[0].counts.values()))
    for found in weights_seen("auto"):
        np.testing.assert_allclose(found, counts.sum() / (3 * counts), rtol=1e-6)
    for found in weights_seen({"blue": 1, "green": 2, "red": 3}):
        np.testing.assert_array_equal(found, [1, 2, 3])


def test_a_heavier_class_is_called_more_often(tmp_path: Path) -> None:
    train_part, valid = datasets(tmp_path / "photos", {"blue": 10, "green": 10, "red": 10})

    def calls_of_red(weight: float) -> float:
        weights = {"blue": 1.0, "green": 1.0, "red": weight}
        one = job(train_part, None, phase("head", 20), class_weights=weights)
        train(one, Notes())
        images = np.stack([fake_image(sample.path) for sample in valid.samples])
        logits = one.network.logits(one.network.embed(images))
        return float((logits.argmax(1) == 2).mean())

    assert calls_of_red(1e-3) < calls_of_red(1e3) == 1


def fake_image(path: Path) -> Any:
    from pyflux_transfer.data.preprocess import load

    return load(path, fake.TINY.preprocessing)


# --- what is refused, before anything takes time --------------------------------------------------


@pytest.mark.parametrize(
    ("options", "phases", "valid", "says"),
    [
        ({"patience": 2}, [], False, "patience=2 needs validation images"),
        ({"solver": "lbfgs"}, [phase("stage1")], True, "solver='lbfgs' trains one Dense layer"),
        (
            {"solver": "lbfgs"},
            [phase("head"), phase("stage2")],
            True,
            "the part that trains here holds conv3",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(
    options: dict[str, Any], phases: list[Phase], valid: bool, says: str, parts: Parts
) -> None:
    with pytest.raises(InputError, match=says):
        job(parts[0], parts[1] if valid else None, *phases, **options)


def test_wrong_class_weights_are_refused_before_the_trunk_runs(parts: Parts) -> None:
    one = job(*parts, class_weights={"blue": 1.0})
    with pytest.raises(InputError, match="must name every class once"):
        train(one, Notes())
    assert counting(one).embedded.total() == 0


# --- stopping -------------------------------------------------------------------------------------


def test_early_stopping_waits_patiently_and_keeps_the_best(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 0.5, 0.4, 0.6, 0.6, 0.1, 0.9)
    states: list[State] = []
    one = job(*parts, phase("head", 6), patience=2)
    run = train(one, Notes(lambda _: states.append(one.network.state())))
    assert run.stopped == "early"
    assert len(run.records) == 5
    assert run.best.epoch == 3
    assert_same(one.network.state(), states[2])


def test_impatience_with_the_head_goes_on_to_the_next_phase(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 0.5, 0.4, 0.3, 0.6, 0.7)
    run = train(job(*parts, phase("head", 9), phase("stage2", 2), patience=2), Notes())
    assert [(record.phase, record.epoch) for record in run.records] == [
        (1, 1), (1, 2), (1, 3), (2, 10), (2, 11),
    ]  # fmt: skip
    assert run.best.epoch == 11
    assert run.stopped == "early"


def test_a_deeper_phase_has_its_own_patience(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may begin worse than the head left off."""
    scripted(monkeypatch, 0.9, 0.1, 0.2, 0.3)
    run = train(job(*parts, phase("head", 1), phase("stage2", 9), patience=3), Notes())
    assert [record.phase for record in run.records] == [1, 2, 2, 2]
    assert run.best.epoch == 1


def test_ctrl_c_ends_the_run_with_the_best_so_far(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 0.5, 0.9, 0.4, 1.0)
    states: list[State] = []
    one = job(*parts)

    def watch(record: Record) -> None:
        states.append(one.network.state())
        if record.epoch == 3:
            raise KeyboardInterrupt

    run = train(one, Notes(watch))
    assert run.stopped == "interrupted"
    assert (len(run.records), run.best.epoch) == (3, 2)
    assert_same(one.network.state(), states[1])


def in_step(one: Job, number: int, happening: Callable[[], float]) -> None:
    step, done = one.network.step, [0]

    def watched(*given: Any) -> float:
        done[0] += 1
        loss = step(*given)
        return happening() if done[0] == number else loss

    one.network.step = watched  # type: ignore[method-assign]


def pressed() -> float:
    raise KeyboardInterrupt


def test_ctrl_c_in_the_middle_of_an_epoch_keeps_whole_epochs(parts: Parts) -> None:
    one, whole = job(*parts), job(*parts, phase("head", 1), schedule="constant")
    one = replace(one, options=replace(one.options, schedule="constant"))
    train(whole, Notes())
    in_step(one, 7, pressed)
    run = train(one, Notes())
    assert (run.stopped, len(run.records)) == ("interrupted", 1)
    assert_same(one.network.state(), whole.network.state())


def test_ctrl_c_before_the_first_epoch_leaves_the_weights_as_they_were(parts: Parts) -> None:
    one = job(*parts)
    before = one.network.state()
    in_step(one, 2, pressed)
    with pytest.raises(KeyboardInterrupt):
        train(one, Notes())
    assert_same(one.network.state(), before)


def test_a_loss_that_is_no_number_restores_the_best_epoch(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 0.9, 0.2)
    states: list[State] = []
    one = job(*parts)
    in_step(one, 10, lambda: float("nan"))
    with pytest.raises(TrainingError, match=r"nan in epoch 3 at the learning rate 0.01\. Lower"):
        train(one, Notes(lambda _: states.append(one.network.state())))
    assert_same(one.network.state(), states[0])


def test_a_rate_beyond_reason_leaves_the_weights_as_they_were(parts: Parts) -> None:
    """The next try, at a lower rate, starts from sound weights."""
    one = job(*parts, phase("stage1", lr=1e25), optimizer="sgd", schedule="constant")
    before = one.network.state()
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="Lower it"):
        train(one, Notes())
    assert_same(one.network.state(), before)


# --- the solver -----------------------------------------------------------------------------------


def test_the_solver_takes_one_epoch(parts: Parts) -> None:
    notes = Notes()
    one = job(*parts, phase("head", 25), solver="lbfgs", weight_decay=1e-4)
    run = train(one, notes)
    assert run.stopped == "finished"
    assert [record.epoch for record in run.records] == [1]
    assert notes.epochs == 1
    assert run.best.train_loss < 0.1
    assert run.best.valid_accuracy == 1
    assert set(counting(one).embedded.values()) == {1}


def test_the_solver_sees_all_views(parts: Parts) -> None:
    one = job(*parts, solver="lbfgs", augment="strong", views=3)
    run = train(one, Notes())
    assert run.best.train_loss < 0.7
    assert counting(one).embedded.total() == 3 * len(parts[0].samples) + len(parts[1].samples)


# --- resuming -------------------------------------------------------------------------------------

DEEP = {"head": DROPOUT, "weight_decay": 0.1}
RESUMED: dict[str, tuple[list[Phase], dict[str, Any]]] = {
    "head": ([], {}),
    "head with dropout": ([], {"head": DROPOUT}),
    "sgd": ([], {"optimizer": "sgd"}),
    "adam, one-cycle": ([], {"optimizer": "adam", "schedule": "one-cycle"}),
    "batch norm": ([phase("stage1")], DEEP),
    "frozen batch norm": ([phase("stage1")], {**DEEP, "freeze_bn": True}),
    "everything": ([phase("stem")], DEEP),
    "gradually deeper": (
        [phase("head", 2), phase("stage2", 2), phase("stage1", 2, 1e-3)],
        {**DEEP, "schedule": "one-cycle"},
    ),
    "live augmentation": ([phase("stage2")], {**DEEP, "augment": "strong"}),
    "views": ([phase("stage2")], {**DEEP, "augment": "strong", "views": 2}),
    "weights and smoothing": ([], {"class_weights": "auto", "label_smoothing": 0.1}),
    "patience": ([phase("head", 6)], {"patience": 2}),
    "no validation": ([phase("stage2")], DEEP),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_equals_one_left_alone(name: str, parts: Parts, tmp_path: Path) -> None:
    """After any epoch, to the last bit: weights, optimizer and history."""
    phases, options = RESUMED[name]
    valid = None if name == "no validation" else parts[1]
    alone = job(parts[0], valid, *phases, folder=tmp_path / "alone", **options)
    whole = train(alone, Notes())
    total = len(whole.records)
    assert total >= 3
    for record in whole.records[:-1]:
        folder = tmp_path / f"run{record.epoch}"
        first = job(parts[0], valid, *phases, folder=folder, **options)
        part = train(first, interrupt_after(record.epoch))
        assert part.stopped == "interrupted"
        second = job(parts[0], valid, *phases, folder=folder, resume=True, **options)
        notes = Notes()
        rest = train(second, notes)
        assert [r.epoch for r in notes.records] == [
            r.epoch for r in whole.records if r.epoch > record.epoch
        ]
        assert timeless(rest) == timeless(whole)
        assert (rest.best.epoch, rest.stopped) == (whole.best.epoch, whole.stopped)
        assert_same(second.network.state(), alone.network.state())
        assert_same(last_tensors(folder), last_tensors(tmp_path / "alone"))


def last_tensors(folder: Path) -> State:
    """The last weights, the best ones, and what the optimizer remembers."""
    return checkpoint.read_tensors(folder / runs.FILE)[0]


@pytest.mark.parametrize("cut", ["stage1", "head"])
def test_a_resumed_run_equals_one_left_alone_on_torch(
    cut: str, parts: Parts, tmp_path: Path
) -> None:
    def one(folder: str, resume: bool = False) -> Job:
        built = job(*parts, phase(cut, 3), folder=tmp_path / folder, resume=resume, augment="light")
        return replace(built, network=torch_engine.build(Plan(fake.TINY, DROPOUT, seed=1)))

    alone = one("alone")
    whole = train(alone, Notes())
    for epoch in (1, 2):
        train(one(f"run{epoch}"), interrupt_after(epoch))
        second = one(f"run{epoch}", resume=True)
        assert timeless(train(second, Notes())) == timeless(whole)
        assert_same(second.network.state(), alone.network.state())
        assert_same(last_tensors(tmp_path / f"run{epoch}"), last_tensors(tmp_path / "alone"))


def test_a_run_can_be_interrupted_again_and_again(parts: Parts, tmp_path: Path) -> None:
    alone = job(*parts, phase("stage1"), **DEEP)
    whole = train(alone, Notes())
    for epoch in (1, 2, 3):
        again = job(*parts, phase("stage1"), folder=tmp_path, resume=True, **DEEP)
        train(again, interrupt_after(epoch))
    last = job(*parts, phase("stage1"), folder=tmp_path, resume=True, **DEEP)
    assert timeless(train(last, Notes())) == timeless(whole)
    assert_same(last.network.state(), alone.network.state())


def test_a_run_killed_while_it_writes_resumes_from_the_epoch_before(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = job(*parts, **DEEP)
    whole = train(alone, Notes())
    killed = fails_third(checkpoint.save_file, KeyboardInterrupt())
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", killed)
        train(job(*parts, folder=tmp_path, **DEEP), Notes())
    assert [path.name for path in tmp_path.glob("*.safetensors")] == [runs.FILE]
    second, notes = job(*parts, folder=tmp_path, resume=True, **DEEP), Notes()
    assert timeless(train(second, notes)) == timeless(whole)
    assert [record.epoch for record in notes.records] == [3, 4]
    assert_same(second.network.state(), alone.network.state())


def test_a_disk_that_fills_leaves_the_epoch_before(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = fails_third(checkpoint.save_file, OSError(28, "No space left on device"))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(StorageError, match="No space left on device"):
            train(job(*parts, folder=tmp_path, **DEEP), Notes())
    notes = Notes()
    train(job(*parts, folder=tmp_path, resume=True, **DEEP), notes)
    assert [record.epoch for record in notes.records] == [3, 4]


def test_a_finished_run_resumed_is_finished_at_once(parts: Parts, tmp_path: Path) -> None:
    first = job(*parts, folder=tmp_path)
    whole = train(first, Notes())
    second, notes = job(*parts, folder=tmp_path, resume=True), Notes()
    again = train(second, notes)
    assert again.records == whole.records
    assert again.stopped == "finished"
    assert notes.records == []
    assert counting(second).embedded.total() == 0
    assert_same(second.network.state(), first.network.state())


def test_a_run_stopped_early_stays_so_when_resumed(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 0.5, 0.4, 0.3, 0.9)
    train(job(*parts, phase("head", 9), patience=2, folder=tmp_path), Notes())
    notes = Notes()
    one = job(*parts, phase("head", 9), patience=2, folder=tmp_path, resume=True)
    again = train(one, notes)
    assert again.stopped == "early"
    assert notes.records == []


def test_a_solved_run_resumed_is_finished_at_once(parts: Parts, tmp_path: Path) -> None:
    first = job(*parts, solver="lbfgs", folder=tmp_path)
    train(first, Notes())
    second = job(*parts, solver="lbfgs", folder=tmp_path, resume=True)
    assert len(train(second, Notes()).records) == 1
    assert_same(second.network.state(), first.network.state())


def test_resume_without_a_run_begins_one(parts: Parts, tmp_path: Path) -> None:
    run = train(job(*parts, folder=tmp_path / "run", resume=True), Notes())
    assert len(run.records) == 4
    assert (tmp_path / "run" / runs.FILE).is_file()


def test_a_run_is_not_overwritten(parts: Parts, tmp_path: Path) -> None:
    train(job(*parts, folder=tmp_path), Notes())
    with pytest.raises(InputError, match="holds a run already"):
        train(job(*parts, folder=tmp_path), Notes())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": 5}, "options batch_size=4, now it is 5"),
        ({"augment": "light"}, "options augment='none', now it is 'crop,flip'"),
        ({"seed": 1}, "options seed=0, now it is 1"),
    ],
)
def test_a_run_is_not_resumed_with_other_options(
    changes: dict[str, Any], says: str, parts: Parts, tmp_path: Path
) -> None:
    train(job(*parts, folder=tmp_path), Notes())
    with pytest.raises(InputError, match=says):
        train(job(*parts, folder=tmp_path, resume=True, **changes), Notes())


def test_a_run_is_not_resumed_with_other_images_phases_or_weights(
    parts: Parts, tmp_path: Path
) -> None:
    train(job(*parts, folder=tmp_path), Notes())
    fewer = replace(parts[0], samples=parts[0].samples[1:])
    with pytest.raises(InputError, match="made with images="):
        train(job(fewer, parts[1], folder=tmp_path, resume=True), Notes())
    with pytest.raises(InputError, match="phases 1 epochs=4, now it is 5"):
        train(job(*parts, phase("head", 5), folder=tmp_path, resume=True), Notes())
    other = job(*parts, folder=tmp_path, resume=True)
    counting(other).tensors["conv1.weight"] += 1
    with pytest.raises(InputError, match="made with trunk weights="):
        train(other, Notes())


def test_what_changes_no_result_may_differ(parts: Parts, tmp_path: Path) -> None:
    train(job(*parts, folder=tmp_path), interrupt_after(2))
    changes = {"workers": 3, "max_pixels": 10_000, "precision": "fp32"}
    assert len(train(job(*parts, folder=tmp_path, resume=True, **changes), Notes()).records) == 4
