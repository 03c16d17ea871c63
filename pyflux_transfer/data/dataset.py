"""A scanned dataset: every file read once, what cannot be used listed with its reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyflux_transfer.data.batches import default_workers, map_ahead
from pyflux_transfer.data.decode import MAX_PIXELS, decode_picture
from pyflux_transfer.data.division import held_back
from pyflux_transfer.data.listing import Entry, list_source
from pyflux_transfer.errors import DataError, ImageError, InputError

Read = TypeVar("Read")

# (title, total) → a context whose value is called with the count of items done since
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Sample:
    """One readable image; `digest` is the sha256 of the file, in hexadecimal.

    Images of one `group` (a patient, a video, an animal) resemble each other more than their class
    does; None is an image by itself.
    """

    path: Path
    label: int
    digest: str
    group: str | None = None


@dataclass(frozen=True)
class Skipped:
    """One file that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Labelled images in a fixed order; a label is an index into `classes`."""

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Images a class, classes without any among them."""
        found = Counter(sample.label for sample in self.samples)
        return {name: found[label] for label, name in enumerate(self.classes)}

    @property
    def groups(self) -> dict[str, int]:
        """Images a group, in the order of their names; empty where none is told."""
        found = Counter(sample.group for sample in self.samples if sample.group is not None)
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class Splits:
    """What a source holds; `valid` and `test` only where the source itself says so."""

    train: Dataset
    valid: Dataset | None = None
    test: Dataset | None = None

    @property
    def parts(self) -> list[Dataset]:
        """Training, validation and test images, as far as there are any."""
        return [part for part in (self.train, self.valid, self.test) if part is not None]


def scan(
    source: str | Path,
    *,
    classes: Sequence[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_skipped: float = 0.05,
    known_good: Container[str] = (),
    workers: int | None = None,
    bar: Bar | None = None,
) -> Splits:
    """Read every file of a folder or a CSV (see `list_source`) once and prove it is an image.

    Classes are the sorted names found, or exactly `classes` in that order. A file whose sha256 is
    in `known_good` is not decoded again. `bar` shows progress. Raises DataError: nothing found,
    one class only, other classes than asked for, or a larger share than `max_skipped` of files
    that cannot be read.
    """
    listed = list_source(source)
    names = _classes(source, listed, classes)
    labels = {name: label for label, name in enumerate(names)}
    entries = [entry for part in listed.values() for entry in part]

    def examine(entry: Entry) -> Sample | Skipped:
        try:
            data = entry.path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            if digest not in known_good:
                # An eighth of the size shows damage as well as the whole does.
                decode_picture(data, max_pixels=max_pixels, shorter_side=1)
        except OSError as error:
            return Skipped(entry.path, error.strerror or str(error))
        except ImageError as error:
            return Skipped(entry.path, str(error))
        return Sample(entry.path, labels[entry.name], digest, entry.group)

    workers = workers or default_workers()
    examined = []
    with bar("scanning", len(entries)) if bar else nullcontext(lambda _: None) as advance:
        for result in map_ahead(examine, entries, workers=workers, ahead=4 * workers):
            examined.append(result)
            advance(1)
        _check_skipped([r for r in examined if isinstance(r, Skipped)], len(entries), max_skipped)
    results = iter(examined)
    parts = {split: _gather((next(results) for _ in part), names) for split, part in listed.items()}
    if unread := [name for name, count in parts["train"].counts.items() if not count]:
        raise DataError(f"No image of the class '{unread[0]}' in '{source}' can be read.")
    return Splits(**parts)


def class_names(source: str | Path) -> tuple[str, ...]:
    """Return the sorted classes of a folder or a CSV; no image is opened. Raises as `scan` does."""
    return _classes(source, list_source(source), None)


def split(dataset: Dataset, valid: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Divide into training and validation, the same share of every class, at least one image each.

    Which side an image falls on depends on `seed`, its class, and the names of the file and its
    folder alone: not on the order, on where the dataset lies, or on the other images' names.
    Images of one group fall on one side, by the name of the group; the shares are then as near as
    whole groups allow. Raises DataError for a class with one image or one group.
    """
    if not 0 < valid < 1:
        raise InputError(f"The validation share must be between 0 and 1, got {valid}.")
    bunches = _bunches(dataset, seed)
    labels = [Counter(dataset.samples[place].label for place in bunch) for bunch in bunches]
    chosen = {place for i in held_back(labels, dataset.classes, valid) for place in bunches[i]}
    train, validation = (
        tuple(sample for i, sample in enumerate(dataset.samples) if (i in chosen) == side)
        for side in (False, True)
    )
    return (
        Dataset(train, dataset.classes, dataset.skipped),
        Dataset(validation, dataset.classes),
    )


def read_sample(sample: Sample, read: Callable[[bytes], Read]) -> Read:
    """Return `read` of the bytes that were scanned.

    A file is read once: what is hashed is what is decoded, so nothing is ever filed under the
    digest of something else. Raises DataError where the content is no longer the scanned one.
    """
    try:
        data = sample.path.read_bytes()
    except OSError as error:
        raise DataError(
            f"'{sample.path}' could be read when it was scanned, and cannot now: "
            f"{error.strerror}. Put it back, or start again without it."
        ) from error
    if hashlib.sha256(data).hexdigest() != sample.digest:
        raise DataError(
            f"'{sample.path}' has changed since it was scanned. Leave the files alone while they "
            "are worked on, and start again."
        )
    try:
        return read(data)
    except ImageError as error:
        reason = str(error).removeprefix("The image")
        raise ImageError(f"'{sample.path}'{reason}") from error


def duplicates(a: Dataset, b: Dataset) -> list[tuple[Path, Path]]:
    """Return the pairs of files, one from each, with the same content."""
    known = {sample.digest: sample.path for sample in a.samples}
    return [(known[s.digest], s.path) for s in b.samples if s.digest in known]


def draw(seed: int, sample: Sample) -> tuple[bytes, str]:
    """Return what decides the order of a division: it looks at the seed and names alone."""
    return _digest(f"{seed}/{sample.path.parent.name}/{sample.path.name}"), sample.digest


def straddling(*parts: Dataset) -> list[str]:
    """Return the groups that stand in more than one of the parts, sorted."""
    stands = Counter(group for part in parts for group in part.groups)
    return sorted(group for group, count in stands.items() if count > 1)


def _bunches(dataset: Dataset, seed: int) -> list[list[int]]:
    """Return the places of images that stay together, one or a group, in the order drawn."""
    found: dict[object, list[int]] = {}
    for place, sample in enumerate(dataset.samples):
        found.setdefault(place if sample.group is None else sample.group, []).append(place)

    def drawn(places: list[int]) -> tuple[bytes, str]:
        sample = dataset.samples[places[0]]
        if sample.group is None:
            return draw(seed, sample)
        return _digest(f"{seed}/{sample.group}"), sample.group

    return sorted(found.values(), key=drawn)


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


def _classes(
    source: str | Path, listed: dict[str, list[Entry]], wanted: Sequence[str] | None
) -> tuple[str, ...]:
    found = sorted({entry.name for entry in listed["train"]})
    if wanted is not None and set(found) != set(wanted):
        raise DataError(
            f"The classes of '{source}' ({', '.join(found)}) are not those asked for "
            f"({', '.join(wanted)}). Rename, add or remove class folders."
        )
    if len(found) < 2 and wanted is None:
        raise DataError(
            f"'{source}' has one class only ('{found[0]}'), at least two are needed. Put the "
            "images of each class into a folder of its own."
        )
    for split_name, part in listed.items():
        if extra := sorted({entry.name for entry in part} - set(found)):
            raise DataError(
                f"The {split_name} images of '{source}' have classes ({', '.join(extra)}) that "
                f"the training images ({', '.join(found)}) lack. Rename, add or remove them."
            )
    return tuple(found if wanted is None else wanted)


def _gather(results: Iterable[Sample | Skipped], classes: tuple[str, ...]) -> Dataset:
    done = list(results)
    return Dataset(
        tuple(result for result in done if isinstance(result, Sample)),
        classes,
        tuple(result for result in done if isinstance(result, Skipped)),
    )


def _check_skipped(skipped: list[Skipped], total: int, max_skipped: float) -> None:
    if len(skipped) > max_skipped * total:
        first = "; ".join(f"{item.path}: {item.reason}" for item in skipped[:3])
        more = "; …" if len(skipped) > 3 else ""
        raise DataError(
            f"{len(skipped)} of {total} files cannot be read, more than the {max_skipped:.0%} "
            f"allowed ({first}{more}). Remove them, or raise max_skipped."
        )
