"""Near-copies and frames of one scene: which photos are one, or stand together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.insight.alignment import (
    PROMISING,
    Floats,
    Ints,
    Pixels,
    blurred,
    likeness,
    reduced,
)

NEAREST = 5  # photos that are compared with each, by features, by outline and by its mirror image
DISTANT = 0.3, 0.2  # cosines of features, and of outlines, below which none is compared
AGREEING = 0.6  # of details, from which two photos are one
TINTED = 0.85  # of colours, likewise
FRAMES = 0.6  # cosine of features from which photos with neighbouring numbers are of one scene
APART = 3  # numbers that such neighbours' names may lie apart
BLOCK_VALUES = 2**23  # similarities at once
OUTLINE = 16  # pixels of a side
BROAD, FAINT = 2.0, 8.0  # pixels of what is no outline; levels of what tells nothing

_NUMBER = re.compile(r"(\d+)(?!.*\d)")


@dataclass(frozen=True)
class Pairs:
    """Pairs of photos (P, 2), the smaller number first, and how sure each is (P,), at most 1."""

    photos: Ints
    score: Floats
    mirrored: NDArray[np.bool_]


@dataclass(frozen=True)
class Alike:
    """What was found: near-copies, and frames of one scene that are none."""

    copies: Pairs
    frames: Pairs


def alike(
    features: Floats, pictures: Pixels, names: Sequence[str], digests: Sequence[str]
) -> Alike:
    """Find near-copies and frames among photos: features (N, D), pictures (N, 48, 48, 3) uint8.

    Those nearest by features, and by outline, are laid over each other. Resized, recompressed,
    slightly cropped, mirrored, darker or brighter ones are copies, and those of equal `digests` are
    whatever they show. Frames are photos whose `names`
    (with their folders) are alike but for neighbouring numbers, whose features are near and which
    look alike from afar.
    """
    units = unit(features)
    near, cosines = _candidates(units, pictures)
    found = likeness(pictures, near)
    same = (found.detail >= AGREEING) & (found.colour >= TINTED)
    equal = _equal(digests)
    same &= ~np.isin(_keys(near, len(names)), _keys(equal, len(names)))
    follow = _following(names, near) & (cosines >= FRAMES) & (found.outline >= PROMISING[16])
    follow &= ~np.isin(_keys(near, len(names)), _keys(equal, len(names)))
    return Alike(
        Pairs(
            np.concatenate([equal, near[same]]),
            np.concatenate([np.ones(len(equal), np.float32), found.detail[same]]),
            np.concatenate([np.zeros(len(equal), bool), found.mirrored[same]]),
        ),
        Pairs(near[follow & ~same], cosines[follow & ~same], found.mirrored[follow & ~same]),
    )


def unit(features: Floats) -> Floats:
    """Return features (N, D) about their mean, of length 1."""
    centred = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))


def nearest(queries: Floats, rows: Floats, count: int) -> tuple[Ints, Floats]:
    """Return the `count` rows (N, D) most alike each query (M, D), and their products (M, count).

    No more than some million products are held at once.
    """
    count = min(count, len(rows))
    places = np.empty((len(queries), count), np.int64)
    products = np.empty((len(queries), count), np.float32)
    size = max(BLOCK_VALUES // max(len(rows), 1), 1)
    for start in range(0, len(queries), size):
        block = queries[start : start + size] @ rows.T
        best = np.argpartition(-block, count - 1, axis=1)[:, :count]
        places[start : start + size] = best
        products[start : start + size] = np.take_along_axis(block, best, axis=1)
    return places, products


def groups(count: int, *pairs: Ints) -> list[list[int]]:
    """Return the photos that pairs (P, 2) join, directly or by others, each list in order."""
    root = list(range(count))

    def top(i: int) -> int:
        while root[i] != i:
            root[i] = i = root[root[i]]
        return i

    for a, b in np.concatenate([np.empty((0, 2), np.int64), *pairs]):
        root[top(int(a))] = top(int(b))
    together: dict[int, list[int]] = {}
    for i in range(count):
        together.setdefault(top(i), []).append(i)
    return [photos for photos in together.values() if len(photos) > 1]


def _equal(digests: Sequence[str]) -> Ints:
    """Return pairs (P, 2) of the first photo of some content and each later one."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(digest, i), i) for i, digest in enumerate(digests)]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)


def _keys(pairs: Ints, count: int) -> Ints:
    """Return one number for each pair of `count` photos."""
    return np.asarray(pairs[:, 0] * count + pairs[:, 1])


def _candidates(units: Floats, pictures: Pixels) -> tuple[Ints, Floats]:
    """Return pairs worth a closer look (P, 2), and the cosine of their features (P,)."""
    outlines = _outlines(pictures)
    mirrored = np.ascontiguousarray(outlines[:, :, ::-1])
    flat, flipped = (x.reshape(len(pictures), -1) for x in (outlines, mirrored))
    searches = ((units, units, DISTANT[0]), (flat, flat, DISTANT[1]), (flipped, flat, DISTANT[1]))
    numbers = []
    for queries, rows, least in searches:
        places, products = nearest(queries, rows, NEAREST + 1)
        first = np.repeat(np.arange(len(queries)), places.shape[1])
        pair = np.stack([first, places.ravel()], axis=1)[products.ravel() >= least]
        pair = np.sort(pair[pair[:, 0] != pair[:, 1]], axis=1)
        numbers.append(_keys(pair, len(units)))
    found = np.unique(np.concatenate(numbers))
    pairs = np.stack([found // len(units), found % len(units)], axis=1)
    cosines = np.concatenate(
        [(units[p[:, 0]] * units[p[:, 1]]).sum(axis=1) for p in _parts(pairs, units.shape[1])]
        or [np.empty(0, np.float32)]
    )
    return pairs, cosines


def _parts(pairs: Ints, width: int) -> list[Ints]:
    size = max(BLOCK_VALUES // width, 1)
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]


def _outlines(pictures: Pixels) -> Floats:
    """Return grey pictures (N, 16, 16) without what is broad, of length 1; blank ones are 0."""
    small = reduced(pictures, OUTLINE)
    small -= blurred(small, BROAD)
    return np.asarray(small / (np.linalg.norm(small, axis=(1, 2), keepdims=True) + FAINT))


def _following(names: Sequence[str], pairs: Ints) -> NDArray[np.bool_]:
    """Tell which pairs (P,) have names that differ by a neighbouring last number alone."""
    split = [_numbered(name) for name in names]

    def follow(a: int, b: int) -> bool:
        (one, first), (two, second) = split[a], split[b]
        return one == two and first is not None and 0 < abs(first - (second or 0)) <= APART

    return np.array([follow(int(a), int(b)) for a, b in pairs], bool)


def _numbered(name: str) -> tuple[str, int | None]:
    """Return a name without its last number, and the number."""
    stem, dot, _ = name.rpartition(".")
    found = _NUMBER.search(stem if dot else name)
    if not found:
        return name, None
    return f"{name[: found.start()]}#{name[found.end() :]}", int(found[1][-18:])
