from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyflux_transfer.classifier import load
from pyflux_transfer.cluster import search as searching
from pyflux_transfer.cluster.search import Search, search
from pyflux_transfer.cluster.space import Outcome, attempt
from pyflux_transfer.data.dataset import Splits
from pyflux_transfer.errors import InputError
from pyflux_transfer.training.features import Cache
from tests import photos as pictures
from tests.training.helpers import Notes

pytest.importorskip("optuna")
pytestmark = pytest.mark.usefixtures("fake_engine")
NAMES = ["tiny=none"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    pictures.write(place / "train", {"blue": 10, "green": 10, "red": 10})
    pictures.write(place / "val", {"blue": 4, "green": 4, "red": 4}, seed=50)
    pictures.write(place / "test", {"blue": 3, "green": 3, "red": 3}, seed=80)
    return place


def look(folder: Path, trials: int, run_dir: Path, **more: Any) -> Search:
    return search(
        folder, trials, networks=NAMES, run_dir=run_dir, engine="fake", epochs=2,
        cache=Cache(run_dir / "features"), **more,
    )  # fmt: skip


def test_the_best_is_first_and_its_bundle_is_kept(folder: Path, tmp_path: Path) -> None:
    found = look(folder, 6, tmp_path / "s")
    assert len(found.rows) == 6
    losses = [row.loss for row in found.rows if row.state == "done" and row.loss is not None]
    assert losses == sorted(losses)
    model = load(found.bundle, engine="fake")
    judged = model.evaluate(folder / "val")
    assert judged.log_loss == pytest.approx(losses[0], abs=1e-4)
    assert judged.accuracy == found.rows[0].accuracy
    assert {row.choice.depth for row in found.rows} > {0}


def test_test_images_choose_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Splits] = []

    def watched(setting: Any, *rest: Any) -> Outcome:
        seen.append(setting.photos)
        return attempt(setting, *rest)

    monkeypatch.setattr(searching, "attempt", watched)
    found = look(folder, 2, tmp_path / "s")
    assert found.test is not None
    assert found.test.count == 9
    assert len(seen) == 2
    for photos in seen:
        assert photos.test is None
        paths = [str(sample.path) for part in photos.parts for sample in part.samples]
        assert not any("/test/" in path for path in paths)


def test_a_search_that_was_ended_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def third_is_killed(*given: Any) -> Outcome:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return attempt(*given)

    monkeypatch.setattr(searching, "attempt", third_is_killed)
    with pytest.raises(KeyboardInterrupt):
        look(folder, 4, tmp_path / "s")
    watcher = Notes()
    found = look(folder, 4, tmp_path / "s", watcher=watcher)
    assert len(found.rows) == 4
    assert count == 5
    assert any("2 trials are behind us" in line for line in watcher.lines)
    assert len({row.choice for row in found.rows}) == 4
    assert look(folder, 4, tmp_path / "s").rows == found.rows
    assert count == 5


def test_a_search_over_other_photos_is_another(folder: Path, tmp_path: Path) -> None:
    look(folder, 1, tmp_path / "s")
    (folder / "train" / "red" / "000.png").unlink()
    with pytest.raises(InputError, match="photos"):
        look(folder, 2, tmp_path / "s")


def test_features_are_computed_once_for_all_trials(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.engines.fake import FakeNetwork

    embedded = 0
    usual = FakeNetwork.embed

    def counted(self: FakeNetwork, images: Any) -> Any:
        nonlocal embedded
        embedded += len(images)
        return usual(self, images)

    monkeypatch.setattr(searching, "chosen", lambda *_: searching.Choice(NAMES[0], 0, 1e-3))
    monkeypatch.setattr(FakeNetwork, "embed", counted)
    (folder / "test").rename(tmp_path / "elsewhere")
    look(folder, 3, tmp_path / "s")
    assert embedded == 42


def test_a_network_that_cannot_be_loaded_fails_alone(folder: Path, tmp_path: Path) -> None:
    names = ["tiny=none", f"tiny={tmp_path / 'none.pth'}"]
    found = search(folder, 8, networks=names, run_dir=tmp_path / "s", engine="fake", epochs=1)
    states = {row.choice.network: row.state for row in found.rows}
    assert states[names[1]] == "failed"
    assert found.rows[0].choice.network == names[0]
    assert all(row.error for row in found.rows if row.state == "failed")
