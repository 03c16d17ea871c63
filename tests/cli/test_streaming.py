"""Answers in a file: written as they come, gone on with, and never another bundle's."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from pyflux_transfer.cli.streaming import Answers, digest, form
from pyflux_transfer.data.dataset import Skipped
from pyflux_transfer.errors import InputError
from pyflux_transfer.predict import Prediction


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bees.safetensors"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}, photo.jpg" for i in range(4)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def answer(path: Path, label: str = "bees") -> Prediction:
    return Prediction(str(path), label, 0.75, ((label, 0.75), ("ants", 0.25)))


def kept(out: Path, bundle: Path, top: int = 2) -> Answers:
    return Answers(out, bundle, top)


@pytest.fixture(params=["answers.csv", "answers.jsonl"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_each_answer_stands_in_the_file_before_the_next_is_made(
    out: Path, bundle: Path, photos: list[Path]
) -> None:
    file = kept(out, bundle)
    lines = []

    def slow() -> object:
        for path in photos:
            yield answer(path)
            lines.append(out.read_text().count("photo.jpg"))

    assert file.pending(photos) == photos
    for _ in file.keeping(slow()):  # type: ignore[arg-type]
        pass
    assert lines == [1, 2, 3, 4]


def test_what_is_answered_is_not_asked_again(out: Path, bundle: Path, photos: list[Path]) -> None:
    first = kept(out, bundle)
    first.pending(photos)
    list(first.keeping(map(answer, photos[:3])))
    before = out.read_text()
    assert kept(out, bundle).pending([*photos, photos[0]]) == [photos[3]]
    assert out.read_text() == before


def test_a_photo_that_changed_and_one_that_was_unreadable_are_asked_again(
    out: Path, bundle: Path, photos: list[Path]
) -> None:
    first = kept(out, bundle)
    first.pending(photos)
    list(first.keeping([answer(photos[0]), answer(photos[1]), Skipped(photos[2], "no image")]))
    photos[0].write_bytes(b"other bytes")
    os.utime(photos[1], ns=(1, 1))
    assert kept(out, bundle).pending(photos) == photos
    assert "photo.jpg" not in out.read_text()


def test_rows_of_photos_that_are_not_given_stay(
    out: Path, bundle: Path, photos: list[Path]
) -> None:
    first = kept(out, bundle)
    first.pending(photos)
    list(first.keeping(map(answer, photos)))
    photos[0].unlink()
    assert kept(out, bundle).pending(photos[2:]) == []
    assert out.read_text().count("photo.jpg") == 4


def test_a_line_that_was_cut_off_is_dropped(out: Path, bundle: Path, photos: list[Path]) -> None:
    first = kept(out, bundle)
    first.pending(photos)
    list(first.keeping(map(answer, photos[:2])))
    out.write_bytes(out.read_bytes()[:-7])
    again = kept(out, bundle)
    assert again.pending(photos) == photos[1:]
    list(again.keeping(map(answer, photos[1:])))
    assert kept(out, bundle).pending(photos) == []


def test_answers_of_another_bundle_are_refused(out: Path, bundle: Path, photos: list[Path]) -> None:
    first = kept(out, bundle)
    first.pending(photos)
    list(first.keeping(map(answer, photos)))
    before, old = out.read_text(), digest(bundle)
    bundle.write_bytes(b"other weights")
    with pytest.raises(InputError, match=rf"another bundle \({old}.*Give another --out"):
        kept(out, bundle).pending(photos)
    assert out.read_text() == before


@pytest.mark.parametrize("text", ["a,b\n1,2\n", '{"a": 1}\n', "hello", "\x00\n", "[1]\n"])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(
    text: str, out: Path, bundle: Path, photos: list[Path]
) -> None:
    if text == "hello" and out.suffix == ".jsonl":
        text += "\n"  # else it may be the beginning of an answer
    out.write_text(text)
    with pytest.raises(InputError, match="something other than answers"):
        kept(out, bundle).pending(photos)
    assert out.read_text() == text


def test_an_empty_file_is_begun(out: Path, bundle: Path, photos: list[Path]) -> None:
    out.touch()
    file = kept(out, bundle)
    assert file.pending(photos) == photos
    list(file.keeping(map(answer, photos)))
    assert kept(out, bundle).pending(photos) == []


def test_the_rows_say_what_was_answered(tmp_path: Path, bundle: Path, photos: list[Path]) -> None:
    for name in ("a.csv", "a.jsonl"):
        file = kept(tmp_path / name, bundle)
        file.pending(photos)
        list(file.keeping([answer(photos[0], 'a "b"\nc'), Skipped(photos[1], "it is empty")]))
    with (tmp_path / "a.csv").open(newline="") as table:
        good, bad = csv.DictReader(table)
    assert (good["name"], good["label"], good["probability"]) == (
        str(photos[0]), 'a "b"\\x0ac', "0.75"
    )  # fmt: skip
    assert (good["bytes"], good["bundle"]) == ("12", digest(bundle))
    assert (bad["name"], bad["label"], bad["error"]) == (str(photos[1]), "", "it is empty")
    row, wrong = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert row["label"] == 'a "b"\nc'
    assert len(row["top"]) == 2
    assert wrong["error"] == "it is empty"


def test_json_with_another_count_of_labels_is_asked_again(
    tmp_path: Path, bundle: Path, photos: list[Path]
) -> None:
    out = tmp_path / "a.jsonl"
    first = kept(out, bundle)
    first.pending(photos)
    list(first.keeping(map(answer, photos)))
    assert kept(out, bundle, top=1).pending(photos) == photos


def test_the_ending_says_the_form() -> None:
    with pytest.raises(InputError, match=r"must end in \.csv or \.jsonl, got 'a\.xlsx'"):
        form(Path("a.xlsx"))
