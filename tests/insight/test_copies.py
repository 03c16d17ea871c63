from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from pyflux_transfer.insight import copies
from pyflux_transfer.insight.copies import Alike, alike, groups, nearest, unit
from tests.insight.test_alignment import drawn, small


def looked(images: list[Image.Image], names: list[str] | None = None) -> Alike:
    """Compare images whose features are their 6 × 6 grey."""
    features = [np.asarray(x.convert("L").resize((6, 6)), np.float32).ravel() for x in images]
    names = names or [f"photo {chr(97 + i)}" for i in range(len(images))]
    digests = [image.tobytes().hex() for image in images]
    return alike(np.stack(features), np.stack([small(x) for x in images]), names, digests)


def test_altered_copies_are_found_and_nothing_else() -> None:
    images = [drawn(seed) for seed in range(20)]
    images += [
        images[4].resize((70, 50)),
        ImageOps.mirror(images[7]),
        images[4].crop((5, 4, 155, 116)),
    ]
    found = looked(images)
    assert groups(len(images), found.copies.photos) == [[4, 20, 22], [7, 21]]
    told = dict(zip(map(tuple, found.copies.photos.tolist()), found.copies.mirrored, strict=True))
    assert told[7, 21]
    assert not told[4, 20]
    assert len(found.frames.photos) == 0


def test_equal_files_are_copies_whatever_they_show() -> None:
    blank = Image.new("RGB", (40, 40), "white")
    found = looked([drawn(0), blank, drawn(1), blank])
    assert found.copies.photos.tolist() == [[1, 3]]
    assert found.copies.score.tolist() == [1]


@pytest.mark.parametrize(
    ("names", "series"),
    [
        (["a/frame 07.jpg", "a/frame 09.jpg"], True),
        (["a/IMG_20240131_101502.jpg", "a/IMG_20240131_101503.jpg"], True),
        (["a/frame 07.jpg", "a/frame 17.jpg"], False),
        (["a/frame 07.jpg", "b/frame 08.jpg"], False),
        (["a/ant.jpg", "a/bee.jpg"], False),
    ],
)
def test_a_series_has_neighbouring_numbers_and_looks_alike(names: list[str], series: bool) -> None:
    scene, later = drawn(5), drawn(5)
    later.paste((200, 30, 30), (30, 20, 100, 60))  # something has moved into it
    others = [drawn(seed) for seed in range(10, 20)]
    found = looked([scene, later, *others], [*names, *(f"z/{chr(97 + i)}.jpg" for i in range(10))])
    assert found.frames.photos.tolist() == ([[0, 1]] if series else [])


def test_neighbours_are_found_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(size=(50, 8)).astype(np.float32))
    whole = nearest(rows, rows, 4)
    monkeypatch.setattr(copies, "BLOCK_VALUES", 170)
    parts = nearest(rows, rows, 4)
    order = np.argsort(-(rows @ rows.T), axis=1)[:, :4]
    assert (np.sort(whole[0]) == np.sort(order)).all()
    assert (np.sort(parts[0]) == np.sort(order)).all()
    np.testing.assert_allclose(np.sort(parts[1]), np.sort(whole[1]), atol=1e-6)


def test_groups_join_what_pairs_join() -> None:
    pairs = np.array([[0, 3], [3, 5], [1, 2]])
    assert groups(7, pairs) == [[0, 3, 5], [1, 2]]
    assert groups(7, pairs, np.array([[2, 5]])) == [[0, 1, 2, 3, 5]]
    assert groups(3) == []


def test_few_photos_are_no_trouble() -> None:
    assert len(looked([drawn(0)]).copies.photos) == 0
    assert len(looked([drawn(0), drawn(1)]).copies.photos) == 0
