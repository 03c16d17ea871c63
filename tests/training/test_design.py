from __future__ import annotations

import errno

import numpy as np
import pytest

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training import rows
from pyflux_transfer.training.design import Design, Standard, reduce
from pyflux_transfer.training.features import Features
from pyflux_transfer.training.rows import Rows

COUNT = 40


def no_room(width: int) -> None:
    raise OSError(errno.ENOSPC, f"no room for rows of {width}")


FULL = {"rows.HELD_BYTES": 0, "rows._File": no_room}
# What is patched to make a small problem take the way of a large one, and its width.
WAYS = {
    "dual": ({}, 60),
    "primal": ({}, 12),
    "in a file": ({"rows.HELD_BYTES": 0}, 12),
    "no room for a file": (FULL, 12),
    "too wide to rotate": ({"design.WIDEST": 1}, 60),
    "in pieces, dual": ({"rows.BLOCK_NUMBERS": 200}, 60),
    "in pieces, primal": ({"rows.BLOCK_NUMBERS": 200}, 12),
    "in pieces, in a file": ({"rows.BLOCK_NUMBERS": 200, "rows.HELD_BYTES": 0}, 12),
    "in pieces, no room for a file": ({"rows.BLOCK_NUMBERS": 200, **FULL}, 12),
}


def features(width: int, count: int = COUNT) -> Array:
    """Far from the origin, of unlike scales."""
    rng = np.random.default_rng(0)
    return (rng.normal(3, 1, (count, width)) * rng.uniform(0.1, 5, width)).astype(np.float32)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Array, Design]:
    patches, width = WAYS[request.param]
    for name, value in patches.items():
        monkeypatch.setattr(f"pyflux_transfer.training.{name}", value)
    x = features(width)
    return x, reduce(x)


def coefficients(found: Design) -> Array:
    return np.random.default_rng(1).normal(size=(3, len(found.spectrum)))


def content(found: Design) -> Array:
    return np.concatenate([found.rows.read(where) for where in found.rows.blocks()]).astype(
        np.float64
    )


def test_logits_are_the_same_in_coordinates_and_on_the_features(
    way: tuple[Array, Design],
) -> None:
    x, found = way
    w = coefficients(found)
    inner, outer = found.lift(w), found.original(w)
    here = content(found) @ inner[:, :-1].T + inner[:, -1]
    there = x.astype(np.float64) @ outer[:, :-1].T + outer[:, -1]
    np.testing.assert_allclose(here, there, atol=1e-5)


def test_the_penalty_is_the_same_in_coordinates_and_on_standardised_features(
    way: tuple[Array, Design],
) -> None:
    x, found = way
    w = coefficients(found)
    standardised = found.original(w)[:, :-1] * Standard.of(Rows.of(x)).scale
    np.testing.assert_allclose((standardised**2).sum(1), (w[:, :-1] ** 2).sum(1), rtol=1e-5)


def test_drop_is_the_transpose_of_lift(way: tuple[Array, Design]) -> None:
    _, found = way
    w = coefficients(found)
    g = np.random.default_rng(2).normal(size=found.lift(w).shape)
    np.testing.assert_allclose((found.lift(w) * g).sum(), (w * found.drop(g)).sum(), rtol=1e-10)


def test_the_spectrum_is_the_mean_square_of_each_coordinate(way: tuple[Array, Design]) -> None:
    _, found = way
    bases = np.eye(len(found.spectrum))[:-1]  # without bias
    lifted = found.lift(bases)
    values = content(found) @ lifted[:, :-1].T + lifted[:, -1]
    np.testing.assert_allclose((values**2).mean(0), found.spectrum[:-1], rtol=1e-4, atol=1e-7)
    assert found.spectrum[:-1].sum() == pytest.approx(1, rel=1e-4)


def test_fewer_rows_than_features_need_no_more_coordinates_than_rows() -> None:
    assert reduce(features(60)).rows.width == COUNT - 1  # one is spent on the mean


def test_where_there_is_no_room_an_array_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FULL.items():
        monkeypatch.setattr(f"pyflux_transfer.training.{name}", value)
    x = features(12)
    assert np.shares_memory(reduce(x).rows.read(slice(3, 5)), x)


def test_kept_features_are_read_in_pieces_and_flattened(monkeypatch: pytest.MonkeyPatch) -> None:
    x, asked = features(12).reshape(COUNT, 3, 2, 2), list[int]()

    def take(indices: range) -> Array:
        asked.append(len(indices))
        return x[np.asarray(indices)]

    monkeypatch.setattr(rows, "BLOCK_NUMBERS", 120)
    kept = Features(x.shape[1:], COUNT, take)  # type: ignore[arg-type]
    np.testing.assert_array_equal(content(reduce(kept)), content(reduce(x)))
    assert max(asked) == 10


def test_alike_all_features_are_divided_by_one_number() -> None:
    x = features(12)
    scale = reduce(x, alike=True).standard.scale
    np.testing.assert_allclose(scale, np.sqrt(x.var(axis=0).sum()), rtol=1e-5)


def test_features_that_are_all_alike_leave_the_bias_alone() -> None:
    for width in (12, 60):
        found = reduce(np.ones((COUNT, width), np.float32))
        outer = found.original(coefficients(found))
        assert np.isfinite(outer).all()


def test_no_rows_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="at least one row"):
        reduce(np.ones((0, 3), np.float32))
    x = features(12)
    x[3, 4] = np.nan
    with pytest.raises(InputError, match="must be finite"):
        reduce(x)
