"""Folders of photos: one a class, or one a split with one a class in each."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pyflux_transfer.data.splitnames import SPLITS, TRAIN, differ_in_split, may_mean_split, split_of
from pyflux_transfer.data.walk import Skipped, Walk, cause, is_beside, is_litter, walk
from pyflux_transfer.errors import DataError

Placed = tuple[Path, str]  # a file, and the name of its class


@dataclass
class Folders:
    """Files with their classes by split, what cannot be read, and what a user should know."""

    parts: dict[str, list[Placed]] = field(default_factory=dict)
    skipped: dict[str, list[Skipped]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def list_folders(folder: Path) -> Folders:
    """Return the files of a folder with one folder a class, or splits with one a class in each.

    Splits are told by their names, whatever the case. Raises DataError where the layout can mean
    two things: then it is better to ask than to train on the wrong photos.
    """
    found = Folders()
    places = _folders(folder)
    passed: Counter[str] = Counter()
    for split, place in (_splits(folder, places) or {TRAIN: folder}).items():
        found.parts[split], found.skipped[split] = [], []
        _list_classes(place, found, split, passed)
    if passed:
        counts = ", ".join(f"{count} {name}" for name, count in passed.most_common())
        found.notes.append(f"passed over, as they are no photos: {counts}")
    return found


def _splits(folder: Path, places: dict[str, Path]) -> dict[str, Path]:
    """Return the folders of the splits, none where `folder` has one folder a class."""
    named = {name: place for name, place in places.items() if split_of(name)}
    alike = {name: place for name, place in places.items() if may_mean_split(name)}
    if differ_in_split(places):
        alike = places
    layered = [name for name, place in alike.items() if _folders(place)]
    if not layered:
        if alike and len(alike) == len(places):
            raise DataError(
                f"'{folder}' holds only {_listed(alike)}, which are called as splits and hold no "
                "folders of classes. Put one folder a class into each, or give a CSV with the "
                "columns path, label and split."
            )
        return {}  # a class may well be called "train": its folder holds images, not folders
    if unclear := [name for name in layered if name not in named]:
        raise DataError(
            f"'{folder / unclear[0]}' looks like a split, not like a class. Rename such folders to "
            "train, val and test, or give one of them by itself."
        )
    if others := [name for name in places if name not in layered]:
        raise DataError(
            f"'{folder}' holds {_listed(places)}: beside train only one val and one test folder "
            f"are expected, with one folder a class in each. Move the others away ({others[0]})."
        )
    splits: dict[str, Path] = {}
    for name, place in named.items():
        split = split_of(name) or TRAIN
        if split in splits:
            raise DataError(
                f"'{splits[split]}' and '{place}' both mean {split}. Move one of them away."
            )
        splits[split] = place
    return {split: splits[split] for split in SPLITS if split in splits}


def _list_classes(folder: Path, found: Folders, split: str, passed: Counter[str]) -> None:
    classes = _folders(folder)
    if not classes:
        raise DataError(
            f"'{folder}' holds no folders. Put the images of each class into a folder of its own."
        )
    walks = {name: walk(place) for name, place in classes.items()}
    _refuse_splits_within(classes)
    _refuse_empty(folder, classes, walks)
    for name, walked in walks.items():
        found.parts[split] += [(path, _class_name(classes[name])) for path in walked.files]
        found.skipped[split] += walked.skipped
        passed.update(walked.passed)
    inner = {tuple(_folders(place)) for place in classes.values()}
    if len(classes) > 1 and len(inner) == 1 and len(names := inner.pop()) > 1:
        found.notes.append(
            f"each class folder in '{folder}' holds the same folders ({_listed(names)}); if those "
            "are the classes, put them first"
        )
    beside = sorted(folder.iterdir())
    passed.update(path.name.strip() for path in beside if _is_counted(path.name))
    if loose := [path for path in beside if not is_beside(path.name) and path.is_file()]:
        found.notes.append(
            f"{len(loose)} files beside the class folders in '{folder}' belong to no class and are "
            f"not used, the first is {loose[0].name}"
        )


def _refuse_splits_within(classes: dict[str, Path]) -> None:
    """Refuse classes that hold splits: their test images would be trained on."""
    within = {name: [n for n in _folders(place) if split_of(n)] for name, place in classes.items()}
    name = next((name for name, inner in within.items() if inner), None)
    if name and len(classes) == 1:
        raise DataError(
            f"'{classes[name].parent}' holds one folder only, and that {_listed(within[name])}. "
            f"Did you mean '{classes[name]}'?"
        )
    if name and (all(within.values()) or len({split_of(n) for n in within[name]}) > 1):
        raise DataError(
            f"The class folder '{classes[name]}' holds {_listed(within[name])}. Splits come first: "
            f"put it as {within[name][0]}/{name}, and so on."
        )


def _refuse_empty(folder: Path, classes: dict[str, Path], walks: dict[str, Walk]) -> None:
    """Refuse classes without a file that could be an image."""
    empty = [name for name, walked in walks.items() if not walked.files]
    for name in empty:
        for item in walks[name].skipped:
            raise DataError(
                f"No image of '{classes[name]}' can be read: {item.path}: {item.reason}."
            )
    if len(empty) == len(classes):
        raise DataError(f"The folders in '{folder}' hold no images.")
    for name in empty:
        passed = walks[name].passed
        but = f"; it holds {_listed(passed)} only" if passed else ""
        raise DataError(
            f"The class folder '{folder / name}' is empty{but}. Fill it with images or remove it."
        )


def _class_name(place: Path) -> str:
    """Return a folder's name as text in one form, however the disk spells its accents."""
    try:
        place.name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"The name of the class folder {place.name.encode('utf-8', 'surrogateescape')!r} in "
            f"'{place.parent}' is no UTF-8. Rename it."
        ) from None
    return unicodedata.normalize("NFC", place.name)


def _folders(folder: Path) -> dict[str, Path]:
    """Return the folders in a folder by name, sorted; hidden ones and litter are left out."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if not is_litter(e.name) and _is_folder(e))
    except OSError as error:
        raise DataError(f"'{folder}' cannot be read: {cause(error)}.") from error
    return {name: folder / name for name in names}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: no class, and told where files are listed
        return False


def _is_counted(name: str) -> bool:
    return is_litter(name) and not name.startswith(".")


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:8]) + (", …" if len(listed) > 8 else "")
