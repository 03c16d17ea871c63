from __future__ import annotations

from pathlib import Path

import pytest

import pyflux_transfer as pft
from pyflux_transfer import labelling
from pyflux_transfer.classifier import Classifier
from pyflux_transfer.errors import InputError
from pyflux_transfer.labelling import ASK, Proposal, Proposed, folder_name, propose, sort_into
from tests import photos

pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "photos", {"blue": 9, "green": 9, "red": 9})


@pytest.fixture
def model(labelled: Path) -> Classifier:
    made = pft.load("tiny", engine="fake").with_head(["blue", "green", "red"])
    made.fit(labelled, quality="head")
    return made


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    place = photos.write(tmp_path / "new", {"blue": 4, "red": 4}, seed=90)
    (place / "broken.jpg").write_bytes(b"no image")
    return place


def test_each_photo_has_a_label_and_some_an_order(model: Classifier, unlabelled: Path) -> None:
    found = propose(model, unlabelled, 3)
    assert len(found.photos) == 8
    assert [photo.order for photo in found.next] == [1, 2, 3]
    assert [item.path.name for item in found.skipped] == ["broken.jpg"]
    told = {p.name: p.label for p in model.predict(sorted(unlabelled.rglob("*.png")))}
    assert {photo.path: photo.label for photo in found.photos} == told


def test_batches_change_nothing(model: Classifier, unlabelled: Path) -> None:
    assert propose(model, unlabelled, 5, batch_size=3) == propose(model, unlabelled, 5)


def test_what_is_known_already_is_not_asked_for(
    model: Classifier, labelled: Path, unlabelled: Path
) -> None:
    (unlabelled / "again.png").write_bytes((labelled / "red" / "000.png").read_bytes())
    last = propose(model, unlabelled, 9, known=labelled).next[-1]
    assert Path(last.path).name == "again.png"


def test_what_cannot_be_meant_is_refused(model: Classifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1, got 0"):
        propose(model, tmp_path, 0)
    (tmp_path / "one.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match="None of the 1 photos can be read"):
        propose(model, tmp_path / "one.jpg")


# --- folders --------------------------------------------------------------------------------------


def proposal(folder: Path, *labels: str) -> Proposal:
    """Propose labels for photos, of which the first is to be labelled next."""
    photos.write(folder, {"red": len(labels)})
    return Proposal(
        tuple(
            Proposed(str(folder / "red" / f"{i:03}.png"), label, 0.5 + i / 10, None if i else 1)
            for i, label in enumerate(labels)
        )
    )


def test_links_are_sorted_by_label_and_the_photos_stay(tmp_path: Path) -> None:
    given = proposal(tmp_path / "new", "red", "red", "blue")
    made = sort_into(tmp_path / "sorted", given)
    names = [path.relative_to(tmp_path / "sorted").as_posix() for path in made]
    assert names == [f"{ASK}/0001 red 000.png", "red/060 001.png", "blue/070 002.png"]
    assert all(path.is_symlink() for path in made)
    assert [str(path.resolve()) for path in made] == [photo.path for photo in given.photos]
    assert all(Path(photo.path).is_file() for photo in given.photos)


def test_copies_where_asked_for_or_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = proposal(tmp_path / "new", "red", "red")
    (path, _) = sort_into(tmp_path / "copies", given, copy=True)
    assert not path.is_symlink()

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(labelling.Path, "symlink_to", refuse)
    (path, _) = sort_into(tmp_path / "sorted", given)
    assert not path.is_symlink()
    assert path.read_bytes() == Path(given.photos[0].path).read_bytes()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    given = proposal(tmp_path / "new", "red")
    with pytest.raises(InputError, match="holds something already"):
        sort_into(tmp_path / "new", given)


@pytest.mark.parametrize("label", ["../../etc", "a/b", "..", "", "con\x00trol", "x" * 500, ". "])
def test_no_class_name_leads_out_of_the_folder(tmp_path: Path, label: str) -> None:
    name = folder_name(label)
    assert 0 < len(name) <= 100
    target = tmp_path / "sorted"
    made = sort_into(target, proposal(tmp_path / "new", "red", label))
    assert made[1].parent.parent == target


def test_photos_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    one, two = (photos.write(tmp_path / name, {"red": 1}, seed=i) for i, name in enumerate("ab"))
    given = Proposal(
        tuple(Proposed(str(place / "red" / "000.png"), "red", 0.5) for place in (one, two))
    )
    assert [path.name for path in sort_into(tmp_path / "sorted", given)] == [
        "050 000.png", "050 000 (2).png",
    ]  # fmt: skip
