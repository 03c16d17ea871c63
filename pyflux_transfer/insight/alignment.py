"""Whether two pictures are one: small pictures are laid over each other and compared.

One is scaled and shifted, along both axes, until it fits the other as well as it can (Lucas &
Kanade 1981; gain and offset are free, as in Evangelidis & Psarakis 2008), from coarse to fine. Then
it is asked where their details agree least (the structure of Wang et al. 2004), and whether their
colours do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

SIDE = 48  # pixels of the small pictures
STEPS = {8: 6, 16: 5, 24: 3, SIDE: 2}  # of the alignment, by size
PROMISING = {8: 0.7, 16: 0.8, 24: 0.5}  # correlation (at last of details) to be looked at closer
FARTHEST = 0.35  # of half a side that one is shifted, or scaled
LEAST_OVERLAP = 0.6
BLOCK_PIXELS = 2**17  # of pairs at once: few, so that they stay in the processor's cache

SMOOTH, AROUND = 2.5, 3.0  # pixels: what is broader is no detail; within which details are compared
NOISE, FAINT = 1.0, 2.0  # levels of 255: of a compressed picture; of which there must be detail
FAINTLY = 0.2  # of the mean square of a picture's detail, below which it is none
LEAST_TOLD = 0.02  # of the pixels that must have detail
DISSENT = 0.15  # of them that may agree less than the agreement that is told
TINT = 4.0  # levels of colour that a compressed picture may add

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Likeness:
    """How alike pairs are (P,) where one lies best over the other; -1 where they do not fit.

    `outline` is the correlation of what is coarse, `detail` the agreement of what is fine and
    `colour` that of tints, all at most 1. `mirrored` says which lie better left for right.
    """

    outline: Floats
    detail: Floats
    colour: Floats
    mirrored: Flags


def likeness(pictures: Pixels, pairs: Ints) -> Likeness:
    """Compare pairs (P, 2) of pictures (N, 48, 48, 3) uint8, the second also mirrored."""
    count = len(pairs)
    outline, detail, colour = (np.full(count, -1, np.float32) for _ in range(3))
    found = Likeness(outline, detail, colour, np.zeros(count, bool))
    fits = np.zeros((count, 4), np.float32)
    coarse = {side: reduced(pictures, side) for side in (8, 16, 24)}
    for where in _blocks(np.arange(count), 8):
        either = [_coarse(coarse[8], pairs[where], fits[where], turned) for turned in (False, True)]
        better = either[1][1] > either[0][1]
        found.mirrored[where] = better
        fits[where] = np.where(better[:, None], either[1][0], either[0][0])
        found.outline[where] = np.maximum(either[0][1], either[1][1])
    close = np.flatnonzero(found.outline >= PROMISING[8])
    for where in _blocks(close, 16):
        fits[where], found.outline[where] = _coarse(
            coarse[16], pairs[where], fits[where], found.mirrored[where]
        )
    close = close[found.outline[close] >= PROMISING[16]]
    details = np.full(count, -1, np.float32)
    for where in _blocks(close, 24):
        fits[where], details[where] = _coarse(
            coarse[24], pairs[where], fits[where], found.mirrored[where], SMOOTH * 24 / SIDE
        )
    for where in _blocks(close[details[close] >= PROMISING[24]], SIDE):
        found.detail[where], found.colour[where] = _fine(
            pictures, pairs[where], fits[where], found.mirrored[where]
        )
    return found


def _blocks(where: Ints, side: int) -> Iterator[Ints]:
    size = BLOCK_PIXELS // side**2
    return (where[start : start + size] for start in range(0, len(where), size))


def _coarse(
    grey: Floats, pairs: Ints, fit: Floats, mirrored: Flags | bool, smooth: float = 0
) -> tuple[Floats, Floats]:
    """Return fits at a small size, and how the pictures, or what is no broader, then correlate."""
    one, two = grey[pairs[:, 0]], _turned(grey[pairs[:, 1]], mirrored)
    fit = _fitted(one, two, fit)
    moved, inside = _warped(two, fit)
    if smooth:
        one, moved = one - blurred(one, smooth), moved - blurred(moved, smooth)
    return fit, _correlation(one, moved, inside)


def _fine(pictures: Pixels, pairs: Ints, fit: Floats, mirrored: Flags) -> tuple[Floats, Floats]:
    """Return the agreement of details and of colours."""
    one = pictures[pairs[:, 0]].astype(np.float32)
    two = _turned(pictures[pairs[:, 1]].astype(np.float32), mirrored)
    grey = [one @ _LUMA, two @ _LUMA]
    fit = _fitted(grey[0], grey[1], fit)
    moved, inside = _warped(grey[1], fit)
    tints = [
        np.stack([x[..., k] - g for k in (0, 2)], 1) for x, g in zip((one, two), grey, strict=True)
    ]
    tints[1] = np.stack([_warped(tints[1][:, k], fit)[0] for k in (0, 1)], 1)
    seen = inside.mean(axis=(1, 2)) >= LEAST_OVERLAP
    detail = _structure(grey[0], moved, inside)
    colour = _tinted(tints[0], tints[1], inside[:, None])
    return np.where(seen, detail, -1), np.where(seen, colour, -1)


# --- laying one over the other --------------------------------------------------------------------


def _fitted(fixed: Floats, moving: Floats, fit: Floats) -> Floats:
    """Improve fits (P, 4): by how much `moving` is scaled and shifted, across and down."""
    side = fixed.shape[1]
    at = _places(side)
    for _ in range(STEPS[side]):
        moved, inside = _warped(moving, fit)
        down, across = np.gradient(moved, 2 / side, axis=(1, 2))
        columns = np.stack(
            [across * at, down * at[:, None], across, down, moved, np.ones_like(moved)], axis=1
        ).reshape(len(moved), 6, side * side)
        weighed = columns * inside.reshape(len(moved), 1, -1)
        square = (weighed @ columns.transpose(0, 2, 1)).astype(np.float64)
        square += np.eye(6) * (1e-4 * square.diagonal(axis1=1, axis2=2)[:, None] + 1e-3)
        aim = (weighed @ fixed.reshape(len(fixed), -1, 1)).astype(np.float64)
        found = np.linalg.solve(square, aim)[..., 0]
        step = (found[:, :4] / np.maximum(found[:, 4:5], 0.1)).clip(-0.1, 0.1)
        fit = (fit + step).clip(-FARTHEST, FARTHEST).astype(np.float32)
    return fit


def _warped(moving: Floats, fit: Floats) -> tuple[Floats, Floats]:
    """Return pictures (P, S, S) scaled and shifted, and where there is something of them."""
    side = moving.shape[1]
    at = _places(side)
    grids = [(1 + fit[:, k, None]) * at + fit[:, k + 2, None] for k in (0, 1)]
    across, down = (_between(grid, side) for grid in grids)
    moved = down @ moving @ across.transpose(0, 2, 1)
    within = [(np.abs(grid) <= 1).astype(np.float32) for grid in grids]
    return np.asarray(moved), np.asarray(within[1][:, :, None] * within[0][:, None, :])


def _between(grid: Floats, side: int) -> Floats:
    """Return matrices (P, S, S) that interpolate linearly at places (P, S) from -1 to 1."""
    pixels = ((grid + 1) * side / 2 - 0.5).clip(0, side - 1)
    near = 1 - np.abs(pixels[..., None] - np.arange(side, dtype=np.float32))
    return np.asarray(np.maximum(near, 0))


def _places(side: int) -> Floats:
    """Return the middles of pixels, from -1 to 1."""
    return ((np.arange(side) + 0.5) * 2 / side - 1).astype(np.float32)


def reduced(pictures: Pixels, side: int) -> Floats:
    """Return grey pictures (N, S, S) of (N, 48, 48, 3) uint8."""
    found = np.empty((len(pictures), side, side), np.float32)
    step = SIDE // side
    for start in range(0, len(pictures), BLOCK_PIXELS // SIDE):
        grey = pictures[start : start + BLOCK_PIXELS // SIDE] @ _LUMA
        parts = grey.reshape(len(grey), side, step, side, step)
        found[start : start + len(grey)] = parts.mean(axis=(2, 4))
    return found


def _turned(pictures: Floats, mirrored: Flags | bool) -> Floats:
    """Return the pictures (P, S, S, …), those that are mirrored left for right."""
    which = np.broadcast_to(mirrored, len(pictures))
    return np.where(which.reshape(-1, *[1] * (pictures.ndim - 1)), pictures[:, :, ::-1], pictures)


# --- comparing ------------------------------------------------------------------------------------


def _correlation(one: Floats, two: Floats, inside: Floats) -> Floats:
    """Return the correlation (P,) of pictures (P, S, S) where they overlap."""
    count = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    a, b = (x - (x * inside).sum(axis=(1, 2), keepdims=True) / count for x in (one, two))
    both, left, right = (_mean(x, inside) for x in (a * b, a * a, b * b))
    noise = (NOISE / 2) ** 2
    return np.asarray(both / np.sqrt((left + noise) * (right + noise)), np.float32)


def _structure(one: Floats, two: Floats, inside: Floats) -> Floats:
    """Return how far details agree where they agree least (P,); -1 where there is hardly any."""
    a, b = (x - blurred(x, SMOOTH) for x in (one, two))
    both, left, right = (blurred(x, AROUND) for x in (a * b, a * a, b * b))
    agreement = both / np.sqrt((left + NOISE**2) * (right + NOISE**2))
    energy = np.maximum(left, right)
    faint = np.maximum(FAINT**2, FAINTLY * energy.mean(axis=(1, 2), keepdims=True))
    told = (energy > faint) & (inside > 0)
    least = LEAST_TOLD * told[0].size if len(told) else 0
    return np.array(
        [
            np.quantile(values[where], DISSENT) if where.sum() >= least else -1
            for values, where in zip(agreement, told, strict=True)
        ],
        np.float32,
    )


def _tinted(one: Floats, two: Floats, inside: Floats) -> Floats:
    """Return how far tints (P, 2, S, S) agree (P,), fine detail left out; greys agree."""
    one, two = blurred(one, SMOOTH), blurred(two, SMOOTH)
    both, left, right = (
        _mean(x.sum(axis=1), inside[:, 0]) + TINT**2 for x in (one * two, one * one, two * two)
    )
    return np.asarray(both / np.sqrt(left * right), np.float32)


def _mean(values: Floats, inside: Floats) -> Floats:
    return np.asarray((values * inside).sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1))


def blurred(pictures: Floats, width: float) -> Floats:
    """Return pictures (…, S, S) through a Gaussian of so many pixels."""
    side = np.arange(pictures.shape[-1])
    apart = side[:, None] - side
    blur: Floats = np.exp(-0.5 * (apart / width) ** 2).astype(np.float32)
    blur /= blur.sum(axis=1, keepdims=True)
    return np.asarray(blur @ pictures @ blur.T)
