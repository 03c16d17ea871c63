"""Shares in one process: what is written, resumed, replaced and merged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer import predict
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.cluster.merge import merge, records
from pyflux_transfer.cluster.photos import Photo, Shard, photos
from pyflux_transfer.cluster.records import FORMS, Record, read
from pyflux_transfer.cluster.run import Counts, here, run
from pyflux_transfer.cluster.work import Job, features_of, predictions_of
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.errors import InputError
from tests import photos as pictures
from tests.engines import fake

pytestmark = pytest.mark.usefixtures("fake_engine")
FORM = "jsonl"


@pytest.fixture
def model() -> Classifier:
    return load("tiny", weights=None, engine="fake").with_head(["blue", "green", "red"], seed=3)


@pytest.fixture
def job(model: Classifier, tmp_path: Path) -> Job:
    from pyflux_transfer import bundle as bundles

    return predictions_of(
        bundles.read(model.save(tmp_path / "m.safetensors")), engine="fake", batch_size=4
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = pictures.write(tmp_path / "photos", {"blue": 5, "green": 6, "red": 4})
    (place / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    return place


def kept(*places: Path) -> dict[str, Record]:
    found = list(records([str(place) for place in places]))
    assert len({record.path for record in found}) == len(found), "doubled"
    return {record.path: record for record in found}


def test_records_are_what_predict_answers(
    model: Classifier, job: Job, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    counts = run(job, photos(str(folder)), str(out), form=FORM, size=4)
    assert counts == Counts(16, 16, 1)
    found = kept(out)
    answers = list(
        predict.predict(model.network, model.classes, model.preprocessing, folder, top=3)
    )
    assert len(answers) == len(found)
    for answer in answers:
        if isinstance(answer, predict.Prediction):
            record = found[answer.name]
            assert record.label == answer.label
            assert record.more["probability"] == answer.probability
            expected = dict(answer.top)
            assert record.values is not None
            np.testing.assert_array_equal(
                record.values, np.float32([expected[name] for name in model.classes])
            )
        else:
            record = found[str(answer.path)]
            assert record.reason
            assert record.reason in answer.reason
            assert record.values is None


def test_shards_are_disjoint_together_all_and_merge(job: Job, folder: Path, tmp_path: Path) -> None:
    every = photos(str(folder))
    whole, places = tmp_path / "whole", [tmp_path / f"s{i}" for i in (1, 2, 3)]
    run(job, every, str(whole), form=FORM)
    counts = [
        run(job, every, str(place), form=FORM, shard=Shard(i, 3))
        for i, place in enumerate(places, start=1)
    ]
    assert sum(count.written for count in counts) == len(every)
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    assert merge([str(whole)], a) == merge([str(place) for place in places], b) == len(every)
    assert a.read_text() == b.read_text()


def test_a_photo_stays_in_its_shard_whatever_comes_beside_it() -> None:
    shard = Shard(2, 5)
    few = [Photo(f"/p/{i}.jpg") for i in range(40)]
    many = [Photo(f"/p/{i}.jpg") for i in range(80)]
    assert [p for p in many[:40] if shard.holds(p)] == [p for p in few if shard.holds(p)]
    assert sum(sum(Shard(i, 5).holds(p) for p in many) for i in range(1, 6)) == 80


def test_a_job_that_was_ended_goes_on_and_doubles_nothing(
    job: Job, folder: Path, tmp_path: Path
) -> None:
    out, every = tmp_path / "out", photos(str(folder))

    def killed(job: Job, parts: object, shares: Sequence[Sequence[Photo]]) -> object:
        for number, counts in enumerate(here(job, parts, shares)):  # type: ignore[arg-type]
            if number == 2:
                raise KeyboardInterrupt
            yield counts

    with pytest.raises(KeyboardInterrupt):
        run(job, every, str(out), form=FORM, size=3, runner=killed)  # type: ignore[arg-type]
    before = len(kept(out))
    assert before == 9
    counts = run(job, every, str(out), form=FORM, size=3)
    assert (counts.seen, counts.written) == (16, 16 - before)
    assert len(kept(out)) == 16
    assert run(job, every, str(out), form=FORM).written == 0


def test_a_photo_that_has_changed_is_done_anew_and_its_old_record_goes(
    job: Job, folder: Path, tmp_path: Path
) -> None:
    out, every = tmp_path / "out", photos(str(folder))
    run(job, every, str(out), form=FORM, size=5)
    old = kept(out)
    changed = folder / "blue" / "000.png"
    changed.write_bytes((folder / "red" / "000.png").read_bytes())
    assert run(job, every, str(out), form=FORM, size=5).written == 1
    lines = [line for part in out.glob("part-*") for line in part.read_text().splitlines()[1:]]
    assert len(lines) == 16
    new = kept(out)
    assert new[str(changed)].digest == old[str(folder / "red" / "000.png")].digest


def test_a_part_that_is_written_twice_is_one(job: Job, folder: Path, tmp_path: Path) -> None:
    def twice(job: Job, parts: object, shares: Sequence[Sequence[Photo]]) -> object:
        list(here(job, parts, shares))  # type: ignore[arg-type]
        yield from here(job, parts, shares)  # type: ignore[arg-type]

    out = tmp_path / "out"
    run(job, photos(str(folder)), str(out), form=FORM, size=5, runner=twice)  # type: ignore[arg-type]
    assert len(kept(out)) == 16
    assert len(list(out.glob("part-*"))) == 4


def test_a_folder_of_another_job_is_refused(job: Job, folder: Path, tmp_path: Path) -> None:
    out, every = str(tmp_path / "out"), photos(str(folder))
    run(job, every, out, form=FORM)
    bundle = Bundle(**{**vars(job.bundle), "temperature": 2.0})
    with pytest.raises(InputError, match="temperature"):
        run(predictions_of(bundle, engine="fake"), every, out, form=FORM)


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0"])
def test_a_shard_is_one_of_those_there_are(text: str) -> None:
    with pytest.raises(InputError, match="3/8"):
        Shard.of(text)


def test_features_are_what_the_trunk_makes(model: Classifier, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = features_of(model, "head", engine="fake")
    run(job, photos(str(folder), labelled=True), str(out), form=FORM)
    (folder / "red" / "broken.png").unlink()
    rows, labels, paths = model.features(folder)
    found = kept(out)
    for row, label, path in zip(rows, labels, paths, strict=True):
        np.testing.assert_array_equal(found[path].values, row)
        assert found[path].label == label


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_every_form_says_what_it_was_told(form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    told = [
        Record(
            "ä,1.jpg",
            "aa",
            "cat",
            rng.random(3, np.float32),
            None,
            None,
            {"probability": 0.5, "unsure": True},
        ),
        Record(
            "b.jpg", "", None, None, "it's\nno image", None, {"probability": None, "unsure": None}
        ),
        Record(
            "c.jpg",
            "cc",
            "12",
            rng.random(3, np.float32),
            None,
            "n",
            {"probability": 1e-06, "unsure": False},
        ),
    ]
    meta = {"values": "probabilities", "shape": [3], "names": ["cat", "dog", "12"]}
    found = read(f"x.{form}", FORMS[form].encode(told, meta))
    for a, b in zip(told, found, strict=True):
        assert (a.path, a.digest, a.label, a.reason, a.note) == (
            b.path, b.digest, b.label, b.reason, b.note,
        )  # fmt: skip
        assert dict(a.more) == dict(b.more)
        if a.values is None:
            assert b.values is None
        else:
            np.testing.assert_array_equal(a.values, b.values)


def test_the_job_is_told_beside_its_parts(job: Job, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(job, photos(str(folder)), str(out), form=FORM)
    told = json.loads((out / "job.json").read_text())
    assert told["names"] == ["blue", "green", "red"]
    assert told["architecture"] == "tiny"


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices on which networks are built."""
    found: list[str] = []

    def build(plan: Plan) -> fake.FakeNetwork:
        found.append(plan.device)
        return fake.FakeNetwork(plan)

    monkeypatch.setattr(fake, "build", build)
    return found


def test_a_worker_computes_where_it_is_told(
    job: Job, folder: Path, tmp_path: Path, devices: list[str]
) -> None:
    there = replace(job, device="cuda")
    run(there, photos(str(folder)), str(tmp_path / "out"), form=FORM)
    assert devices == ["cuda"]
    assert there.meta() != job.meta()


@pytest.mark.parametrize(
    ("words", "loads"),
    [
        (("predict", "m.safetensors", "photos"), 1),
        (("features", "photos", "--arch", "tiny", "--weights", "none"), 2),
    ],
)
def test_the_command_lines_device_reaches_the_worker(
    model: Classifier, folder: Path, tmp_path: Path, devices: list[str],
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], loads: int,
) -> None:  # fmt: skip
    from pyflux_transfer.cli.app import main

    monkeypatch.chdir(tmp_path)
    model.save(tmp_path / "m.safetensors")
    devices.clear()
    with pytest.raises(SystemExit) as end:
        main([*words, "--engine", "fake", "--device", "cuda", "--shard", "1/1", "--format", FORM,
              "--out", "out"])  # fmt: skip
    assert end.value.code == 2  # a photo is broken
    assert devices == ["cuda"] * loads
    assert (folder / "red").is_dir()
