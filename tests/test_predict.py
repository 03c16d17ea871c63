from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer import predict
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.data.dataset import Skipped
from pyflux_transfer.data.preprocess import load
from pyflux_transfer.engines.base import Network, Plan
from pyflux_transfer.errors import ImageError, InputError
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.start import start
from pyflux_transfer.predict import Prediction, probabilities, rank, restore, softmax, sources
from tests import photos
from tests.data.pictures import encoded
from tests.engines import fake

pytestmark = pytest.mark.usefixtures("fake_engine")

CLASSES = ("ants", "bees", "cats")
PLAIN = fake.TINY.preprocessing


@pytest.fixture
def network() -> Network:
    state = start(Plan(fake.TINY, Head(3)).units, 4)
    state["classifier.weight"] *= 30  # opinions that differ
    return restore(Bundle("tiny", CLASSES, Head(3), PLAIN, 2, state), "fake")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "photos", {"blue": 3, "green": 2, "red": 4})


@pytest.fixture
def ask(network: Network) -> Callable[..., list[Prediction | Skipped]]:
    return lambda given, **options: list(predict.predict(network, CLASSES, PLAIN, given, **options))


Ask = Callable[..., list[Any]]


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def test_a_restored_network_is_cut_at_its_head(network: Network) -> None:
    assert network.units[network.cut].name == "classifier"


def test_probabilities_are_those_of_the_whole_network(network: Network, folder: Path) -> None:
    images = np.stack([load(path, PLAIN) for path in files(folder)])
    found = probabilities(network, images)
    np.testing.assert_allclose(
        found, softmax(network.apply(images, 0, len(network.units))), rtol=1e-6
    )
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    assert found.dtype == np.float32


def test_every_way_to_give_an_image_gets_the_same_answer(folder: Path, ask: Ask) -> None:
    path = files(folder)[5]
    pixels = np.asarray(Image.open(path))
    (wanted,) = ask(path)
    given: list[Any] = [
        str(path), path.read_bytes(), Image.open(path), pixels, [path], (pixels,), pixels[None],
        [path.read_bytes()], load(path, PLAIN)[None],
    ]  # fmt: skip
    for one in given:
        (found,) = ask(one)
        assert found.top == wanted.top
        assert (found.label, found.probability) == wanted.top[0]


def test_a_folder_is_its_files_in_order(folder: Path, ask: Ask) -> None:
    (folder / ".hidden").write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (folder / "red" / "Thumbs.db").write_text("x")
    assert [answer.name for answer in ask(folder)] == [str(path) for path in files(folder)]
    assert ask(folder) == ask(files(folder)) == ask([folder / "blue", *files(folder)[3:]])


def test_names_tell_images_apart(folder: Path, ask: Ask) -> None:
    path = files(folder)[0]
    data = path.read_bytes()
    pixels = np.asarray(Image.open(path))
    assert [a.name for a in ask([data, path, data])] == ["image 0", str(path), "image 2"]
    assert [a.name for a in ask(np.stack([pixels, pixels]))] == ["image 0", "image 1"]
    assert [a.name for a in ask(np.stack([load(path, PLAIN)] * 3), batch_size=2)] == [
        "image 0", "image 1", "image 2",
    ]  # fmt: skip
    assert ask(data)[0].name == "image"


@pytest.mark.parametrize("batch_size", [1, 2, 4, 9, 100])
def test_the_batch_size_changes_no_answer(batch_size: int, folder: Path, ask: Ask) -> None:
    assert ask(folder, batch_size=batch_size) == ask(folder, batch_size=3, workers=1)
    images = np.stack([load(path, PLAIN) for path in files(folder)])
    together = ask(images, batch_size=batch_size)
    assert [answer.top for answer in together] == [answer.top for answer in ask(folder)]


def test_preprocessed_images_need_not_lie_together(folder: Path, ask: Ask) -> None:
    images = np.stack([load(path, PLAIN) for path in files(folder)])
    assert [a.top for a in ask(images[::2])] == [a.top for a in ask(images)[::2]]


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_an_unreadable_image_is_told_in_its_place_and_costs_no_other(
    batch_size: int, folder: Path, ask: Ask
) -> None:
    good = ask(folder)
    paths = files(folder)
    paths[4].write_bytes(paths[4].read_bytes()[:60])
    (folder / "blue" / "notes.jpg").write_text("no image")
    found = ask(folder, batch_size=batch_size)
    bad = {i: item for i, item in enumerate(found) if isinstance(item, Skipped)}
    assert [item.path.name for item in bad.values()] == ["notes.jpg", paths[4].name]
    assert all(str(item.path) in item.reason for item in bad.values())
    assert [item for item in found if isinstance(item, Prediction)] == good[:4] + good[5:]


def test_a_batch_of_unreadable_images_alone(tmp_path: Path, ask: Ask) -> None:
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_text("no image")
    assert all(isinstance(item, Skipped) for item in ask(sorted(tmp_path.glob("*.jpg"))))


def test_too_many_pixels_are_refused(folder: Path, ask: Ask) -> None:
    (found,) = ask(files(folder)[0], max_pixels=100)
    assert isinstance(found, Skipped)
    assert "256" in found.reason


def test_a_file_that_goes_away_is_told(folder: Path, network: Network) -> None:
    paths = files(folder)
    answers = predict.predict(network, CLASSES, PLAIN, paths, batch_size=1, workers=1)
    next(answers)
    paths[-1].unlink()
    assert isinstance(list(answers)[-1], Skipped)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere.jpg", "No such file: 'nowhere.jpg'"),
        (["nowhere.jpg"], "No such file: 'nowhere.jpg'"),
        (np.full((1, 3, 8, 8), np.nan, np.float32), "NaN"),
        (np.zeros((1, 4, 8, 8), np.float32), r"must be shaped \(N, 3, H, W\)"),
    ],
)
def test_what_cannot_be_predicted_is_refused(given: Any, says: str, ask: Ask) -> None:
    with pytest.raises(InputError, match=says):
        ask(given)


@pytest.mark.parametrize(
    "given",
    [np.zeros((3, 8, 8), np.float32), np.zeros((2, 8, 8, 3)), np.zeros((2, 3, 8, 8), np.uint8), 7],
)
def test_arrays_and_things_that_are_no_images_are_told(given: Any, ask: Ask) -> None:
    for answer in ask(given):
        assert isinstance(answer, Skipped)


def test_an_empty_folder_is_told(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file"):
        ask(tmp_path / "empty")


def test_no_image_is_no_answer(ask: Ask) -> None:
    assert ask([]) == []


@pytest.mark.parametrize(("options", "says"), [({"top": 0}, "top"), ({"batch_size": 0}, "batch")])
def test_numbers_below_one_are_refused(
    options: dict[str, int], says: str, folder: Path, ask: Ask
) -> None:
    with pytest.raises(InputError, match=f"{says}.* must be at least 1, got 0"):
        ask(folder, **options)


# --- ranking --------------------------------------------------------------------------------------


def test_labels_are_ranked_by_falling_probability_ties_in_class_order() -> None:
    rows = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [1 / 3] * 3], np.float32)
    first, second, third = rank(["a", "b", "c"], rows, CLASSES)
    assert [label for label, _ in first.top] == ["bees", "cats", "ants"]
    assert [label for label, _ in second.top] == ["ants", "bees", "cats"]
    assert [label for label, _ in third.top] == ["ants", "bees", "cats"]
    assert third.probability == 0.333333


@pytest.mark.parametrize(("top", "count"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_as_many_labels_as_asked_for(top: int, count: int) -> None:
    (found,) = rank(["a"], np.array([[0.2, 0.5, 0.3]], np.float32), CLASSES, top)
    assert len(found.top) == count


def test_a_prediction_is_plain_data() -> None:
    (found,) = rank(["a"], np.array([[0.2, 0.5, 0.3]], np.float32), CLASSES, 2)
    assert json.loads(json.dumps(found.to_json())) == {
        "name": "a",
        "label": "bees",
        "probability": 0.5,
        "top": [{"label": "bees", "probability": 0.5}, {"label": "cats", "probability": 0.3}],
    }


def test_softmax_of_large_numbers() -> None:
    found = softmax(np.array([[1e4, 0, -1e4], [3e38, 3e38, 0]], np.float32))
    np.testing.assert_allclose(found, [[1, 0, 0], [0.5, 0.5, 0]])


def test_whatever_holds_an_image_is_taken(
    folder: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(folder)
    wanted = [answer.top for answer in ask(paths)]
    assert [answer.top for answer in ask(path for path in paths)] == wanted
    assert [a.top for a in ask(io.BytesIO(path.read_bytes()) for path in paths)] == wanted
    with paths[0].open("rb") as file:
        assert ask(file)[0].top == wanted[0]
    assert [answer.name for answer in ask(str(folder / "*" / "*.png"))] == list(map(str, paths))
    assert ask(str(folder / "r*")) == ask(folder / "red")
    grey = np.zeros((30, 30, 1), np.uint8)
    assert ask(grey)[0].top == ask(grey[..., 0])[0].top
    with pytest.raises(InputError, match=r"No such file: .*\*\.gif"):
        ask(str(folder / "*.gif"))
    monkeypatch.chdir(folder)
    Path("[x].png").write_bytes(paths[0].read_bytes())
    assert ask("[x].png")[0].top == wanted[0]


def test_arrays_of_other_kinds_are_taken(folder: Path, ask: Ask) -> None:
    paths = files(folder)
    wanted = ask(paths)
    assert ask(np.array([str(path) for path in paths])) == wanted
    assert ask(np.array(paths, dtype=object)) == wanted

    class Foreign:
        def __array__(self, dtype: object = None, copy: object = None) -> Any:
            return np.asarray(Image.open(paths[0]))

    assert ask(Foreign())[0].top == wanted[0].top


def test_a_file_that_lacks_only_its_end_is_used_and_told(tmp_path: Path, ask: Ask) -> None:
    whole = encoded(Image.new("RGB", (60, 60), "red"), "JPEG")
    (tmp_path / "a.jpg").write_bytes(whole)
    (tmp_path / "b.jpg").write_bytes(whole[:-2])
    notes: list[str] = []
    first, second = ask(tmp_path, note=notes.append)
    assert first.top == second.top
    assert notes == [f"'{tmp_path / 'b.jpg'}' lacks only its end and is used"]


def test_a_pipe_is_not_opened_and_names_are_shown_as_text(tmp_path: Path, ask: Ask) -> None:
    os.mkfifo(tmp_path / "queue.jpg")
    (found,) = ask(tmp_path)
    assert isinstance(found, Skipped)
    assert "it is a named pipe, not a file" in found.reason
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(path)).write_bytes(encoded(Image.new("RGB", (20, 20)), "PNG"))
    assert [item.name for item in ask(tmp_path) if isinstance(item, Prediction)] == [
        f"{tmp_path}/caf\\xe9.png"
    ]


def test_an_image_error_is_the_reason(folder: Path) -> None:
    path = files(folder)[0]
    path.write_bytes(b"")
    with pytest.raises(ImageError) as refusal:
        load(path, PLAIN)
    ((name, source),) = sources(path)
    assert (name, source) == (str(path), path)
    assert str(path) in str(refusal.value)
