"""A scanned dataset: every file read once, what cannot be used listed with its reason."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.decode import MAX_PIXELS, decode_picture
from pyflux_transfer.data.division import held_back
from pyflux_transfer.data.entries import Content, Listing
from pyflux_transfer.data.listing import Entry, Labelled, list_source
from pyflux_transfer.data.reading import read_content, read_file
from pyflux_transfer.data.splitnames import TEST, TRAIN
from pyflux_transfer.data.walk import Skipped as Skipped
from pyflux_transfer.errors import DataError, ImageError, InputError
from pyflux_transfer.installation.environment import cores

MAX_SKIPPED = 0.05  # share of files: with more that cannot be read it is the wrong folder
CHECKED = 2**62  # max_pixels for what was scanned: the scan has held it to its own limit
Read = TypeVar("Read")

# (title, total) → a context whose value is called with the count of items done since
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One readable image; `digest` is the sha256 of the file, in hexadecimal.

    Images of one `group` (a patient, a video, an animal) resemble each other more than their class
    does; None is an image by itself. `mended` says that it lacks its last bytes, but none of its
    pixels. An image with `content` is no file of its own, and its path is but a name.
    """

    path: Path
    label: int
    digest: str
    group: str | None = None
    mended: bool = False
    content: Content | None = field(default=None, repr=False)


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
    """What a source holds; `valid` and `test` only where the source itself says so.

    `notes` are what a user should know before these images are worked on.
    """

    train: Dataset
    valid: Dataset | None = None
    test: Dataset | None = None
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> list[Dataset]:
        """Training, validation and test images, as far as there are any."""
        return [part for part in (self.train, self.valid, self.test) if part is not None]

    def left_out(self) -> list[str]:
        """Tell of each file that is not used, and why."""
        return [str(item) for part in self.parts for item in part.skipped]


def scan(
    source: Labelled,
    *,
    classes: Sequence[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_skipped: float = MAX_SKIPPED,
    known_good: Container[str] = (),
    workers: int | None = None,
    bar: Bar | None = None,
    training: bool = True,
) -> Splits:
    """Read every image of a folder or a table (see `list_source`) once and prove it is one.

    Classes are the names found, sorted or as the source orders them (categories, numbers), or
    exactly `classes` in that order. A file whose sha256 is
    in `known_good` is not decoded again. `bar` shows progress. Where it is not for `training` there
    need be no training images, nor images of every class. Raises DataError: nothing found, one
    class only, other classes than asked for, or a larger share than `max_skipped` of files that
    cannot be read.
    """
    listing = list_source(source)
    name = called(source)
    names = _classes(source, listing, classes, training)
    labels = {_form(name): label for label, name in enumerate(names)}
    entries = [entry for part in listing.parts.values() for entry in part]

    def one(entry: Entry) -> Sample | Skipped:
        return examine(entry, labels[entry.name], max_pixels, known_good)

    workers = workers or cores()
    examined = []
    with bar("scanning", len(entries)) if bar else nullcontext(lambda _: None) as advance:
        for result in map_ahead(one, entries, workers=workers, ahead=4 * workers):
            examined.append(result)
            advance(1)
        unlisted = [item for items in listing.skipped.values() for item in items]
        skipped = [*unlisted, *(result for result in examined if isinstance(result, Skipped))]
        _check_skipped(skipped, len(entries) + len(unlisted), max_skipped)
    results = iter(examined)
    parts = {
        split: _gather((next(results) for _ in part), names, listing.skipped.get(split, ()))
        for split, part in listing.parts.items()
    }
    if empty := [split for split, part in parts.items() if not part.samples]:
        raise DataError(f"No {empty[0]} image of {name} can be read.")
    if TRAIN not in parts:
        return Splits(Dataset((), names), **parts, notes=(*listing.notes, *_notes(parts)))
    if unread := [name for name, count in parts[TRAIN].counts.items() if not count and training]:
        raise DataError(f"No image of the class '{unread[0]}' in {name} can be read.")
    return Splits(**parts, notes=(*listing.notes, *_notes(parts)))


def examine(
    entry: Entry, label: int, max_pixels: int, known_good: Container[str] = ()
) -> Sample | Skipped:
    """Read an image and prove it is one; a digest that is `known_good` is not decoded."""
    mended = False
    try:
        data = _read(entry, max_pixels)
        digest = hashlib.sha256(data).hexdigest()
        if digest not in known_good:
            # An eighth of the size shows damage as well as the whole does.
            mended = decode_picture(data, max_pixels=max_pixels, shorter_side=1).mended
    except ImageError as error:
        return Skipped(entry.path, _reason(error))
    return Sample(entry.path, label, digest, entry.group, mended, entry.content)


def class_names(source: Labelled) -> tuple[str, ...]:
    """Return the classes of a folder or a table; no image is opened. Raises as `scan` does."""
    return _classes(source, list_source(source), None, training=True)


def called(source: object) -> str:
    """Return how messages call a source: by its path, or as what it is."""
    return f"'{source}'" if isinstance(source, (str, Path)) else "the table"


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
        data = _read(sample, None)
    except ImageError as error:
        raise DataError(
            f"'{sample.path}' could be read when it was scanned, and cannot now: {_reason(error)} "
            "Put it back, or start again without it."
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


def _read(item: Entry | Sample, max_pixels: int | None) -> bytes:
    if item.content is None:
        return read_file(item.path, max_pixels)
    return read_content(item.path, item.content, max_pixels)


def _reason(error: ImageError) -> str:
    """Return why, without the file that is named beside it."""
    return str(error).split(" cannot be read: ", 1)[-1]


def duplicates(a: Dataset, b: Dataset) -> list[tuple[Path, Path]]:
    """Return the pairs of files, one from each, with the same content."""
    known = {sample.digest: sample.path for sample in a.samples}
    return [(known[s.digest], s.path) for s in b.samples if s.digest in known]


def contradictions(dataset: Dataset) -> list[tuple[Path, Path]]:
    """Return the pairs of files with the same content and different classes."""
    first: dict[str, Sample] = {}
    for sample in dataset.samples:
        first.setdefault(sample.digest, sample)
    return [
        (first[sample.digest].path, sample.path)
        for sample in dataset.samples
        if first[sample.digest].label != sample.label
    ]


def draw(seed: int, sample: Sample) -> tuple[bytes, str]:
    """Return what decides the order of a division: it looks at the seed and names alone."""
    return _digest(f"{seed}/{sample.path.parent.name}/{sample.path.name}"), sample.digest


def straddling(*parts: Dataset) -> list[str]:
    """Return the groups that stand in more than one of the parts, sorted."""
    stands = Counter(group for part in parts for group in part.groups)
    return sorted(group for group, count in stands.items() if count > 1)


def torn(judged: Dataset, others: Sequence[Dataset], where: str) -> Iterator[str]:
    """Yield a note on groups of the images that judge which stand in others too.

    `where` says in which two, and what that flatters.
    """
    learnt = Dataset(tuple(s for other in others for s in other.samples), judged.classes)
    if groups := straddling(learnt, judged):
        more = " …" if len(groups) > 1 else ""
        yield f"{len(groups)} groups stand in both {where}: {groups[0]}{more}"


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
    source: Labelled,
    listing: Listing,
    wanted: Sequence[str] | None,
    training: bool,
) -> tuple[str, ...]:
    name, listed = called(source), listing.parts
    order = {known: i for i, known in enumerate(listing.order)}
    if training and TRAIN not in listed:
        raise DataError(
            f"{name} has {' and '.join(listed)} images only, none to train on. Put those into "
            "a folder train beside them, or give the folder of one split by itself."
        )
    first = TRAIN if TRAIN in listed else next(iter(listed))
    found = sorted(
        {entry.name for entry in listed[first]}, key=lambda name: (order.get(name, 0), name)
    )
    known = found if wanted is None else [_form(name) for name in wanted]
    # A split to judge by need not hold every class.
    strict = TRAIN in listed
    if wanted is not None and (set(found) != set(known) if strict else set(found) - set(known)):
        raise DataError(
            f"The classes of {name} ({', '.join(found)}) are not those asked for "
            f"({', '.join(wanted)}). Rename, add or remove class folders."
        )
    if len(found) < 2 and wanted is None:
        raise DataError(
            f"{name} has one class only ('{found[0]}'), at least two are needed. Put the "
            f"images of each class into a folder of its own.{_deeper(source, found[0])}"
        )
    for split_name, part in listed.items():
        if extra := sorted({entry.name for entry in part} - set(known)):
            raise DataError(
                f"The {split_name} images of {name} have classes ({', '.join(extra)}) that "
                f"the training images ({', '.join(known)}) lack. Rename, add or remove them."
            )
    return tuple(found if wanted is None else wanted)


def _form(name: str) -> str:
    """Return a name as text in one form: disks spell accents in two ways."""
    return unicodedata.normalize("NFC", name)


def _deeper(source: object, name: str) -> str:
    """Suggest a folder whose folders may be the classes, as archives often unpack to."""
    if not isinstance(source, (str, Path)):
        return ""
    folder = Path(source) / name
    holds = folder.is_dir() and any(place.is_dir() for place in folder.iterdir())
    return f" Or did you mean '{folder}'?" if holds else ""


def _gather(
    results: Iterable[Sample | Skipped], classes: tuple[str, ...], unlisted: Sequence[Skipped]
) -> Dataset:
    done = list(results)
    return Dataset(
        tuple(result for result in done if isinstance(result, Sample)),
        classes,
        (*unlisted, *(result for result in done if isinstance(result, Skipped))),
    )


def _notes(parts: dict[str, Dataset]) -> Iterator[str]:
    """Yield what may be wrong with images that can all be read."""
    samples = [sample for part in parts.values() for sample in part.samples]
    classes = next(iter(parts.values())).classes
    yield from _lookalikes(classes)
    twice = contradictions(Dataset(tuple(samples), classes))
    yield from _several("photos stand in two classes at once, and one must be wrong", twice)
    if TRAIN in parts and TEST in parts:
        seen = duplicates(parts[TRAIN], parts[TEST])
        yield from _several("test photos are training photos too, which flatters the test", seen)
    cut = [sample.path for sample in samples if sample.mended]
    yield from (f"{len(cut)} photos lack only their end and are used, as {p}" for p in cut[:1])


def _several(what: str, pairs: list[tuple[Path, Path]]) -> Iterator[str]:
    more = " …" if len(pairs) > 1 else ""
    yield from (f"{len(pairs)} {what}: {a} = {b}{more}" for a, b in pairs[:1])


def _lookalikes(classes: Sequence[str]) -> Iterator[str]:
    """Yield a note on names that may mean one class, or none."""
    seen: dict[str, str] = {}
    for name in classes:
        form = _meaning(name)
        if form in seen:
            yield f"the classes '{seen[form]}' and '{name}' may be one: their names are alike"
        seen.setdefault(form, name)
        if form in _MISSING:
            yield f"the class '{name}' may stand for labels that are missing"


_MISSING = {"nan", "null", "n/a", "na", "<na>"}


def _meaning(name: str) -> str:
    """Return what a name has in common with others that mean the same: 1 and 1.0, Cat and cat."""
    word = " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())
    try:
        return f"{float(word):g}" if word not in _MISSING else word
    except ValueError:
        return word


def _check_skipped(skipped: list[Skipped], total: int, max_skipped: float) -> None:
    if len(skipped) > max_skipped * total:
        first = "; ".join(f"{item.path}: {item.reason}" for item in skipped[:3])
        more = "; …" if len(skipped) > 3 else ""
        raise DataError(
            f"{len(skipped)} of {total} files cannot be read, more than the {max_skipped:.0%} "
            f"allowed ({first}{more}). Remove them, or raise max_skipped (--max-skipped)."
        )
