"""Which bunches of images are held back for validation: a bunch is one image, or one group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pyflux_transfer.errors import DataError, counted

Bunch = Counter[int]  # images by label


def held_back(bunches: Sequence[Bunch], classes: Sequence[str], share: float) -> set[int]:
    """Return the places of the bunches to hold back: `share` of every class, as near as they allow.

    Earlier bunches are taken first. Each class stands on both sides. Raises DataError where it
    cannot.
    """
    free = Counter(label for bunch in bunches for label in bunch)  # bunches to learn from
    held: set[int] = set()

    def may_go(place: int) -> bool:
        return place not in held and all(free[label] > 1 for label in bunches[place])

    def take(place: int) -> None:
        held.add(place)
        free.subtract(bunches[place].keys())

    for label, name in enumerate(classes):
        mine = [place for place, bunch in enumerate(bunches) if label in bunch]
        sizes = {place: bunches[place][label] for place in mine}
        total = sum(sizes.values())
        _check(name, len(mine), total)
        wanted = min(max(round(share * total), 1), total - 1)
        filled = sum(sizes[place] for place in mine if place in held)
        for place in mine:
            if filled + sizes[place] / 2 <= wanted and may_go(place):
                take(place)
                filled += sizes[place]
        if not filled:
            small = min(filter(may_go, mine), key=lambda place: sizes[place], default=None)
            if small is None:
                raise DataError(
                    f"The class '{name}' cannot stand on both sides of a split that keeps groups "
                    "whole. Add images of other groups, or give validation images of your own."
                )
            take(small)
    return held


def _check(name: str, bunches: int, images: int) -> None:
    if bunches > 1:
        return
    whole = f"all {images} images in one group" if images > 1 else counted(images, "image")
    raise DataError(
        f"The class '{name}' has {whole}, a split needs two. Add images, "
        "remove the class, or give validation images of your own."
    )
