"""What a check finds: photos, findings about them, and what to do first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pyflux_transfer.data.entries import Content
from pyflux_transfer.insight.appearance import RULES

FEW = 20  # photos of a class below which more of them help most
LOPSIDED = 5  # times as many photos in the largest class as in the smallest


@dataclass(frozen=True)
class Kind:
    """A kind of finding: its title, what it means, and what to do about it."""

    title: str
    means: str
    advice: str


# In the order in which they are worth one's time.
KINDS = {
    "unreadable": Kind(
        "Unreadable files",
        "They cannot be decoded, and training leaves them out.",
        "Export them anew, or remove them.",
    ),
    "leak": Kind(
        "Copies across splits",
        "The same picture is in training and in what judges it, which flatters the score.",
        "Remove it from one of the splits.",
    ),
    "conflict": Kind(
        "Copies in two classes",
        "What looks the same has two labels: one of them is wrong, or the difference is small.",
        "Decide for one label, or remove the picture; leave what only looks alike.",
    ),
    "label": Kind(
        "Probable label errors",
        "A model that has not seen the photo confidently says something else. Where it agrees "
        "with few of the labels, believe it little.",
        "Look at them from the top, and stop where the labels become right.",
    ),
    "copy": Kind(
        "Near-copies",
        "The same picture twice: resized, recompressed, cropped, mirrored, darker or brighter.",
        "Keep one of each, or group them, so that they stay on one side of a split.",
    ),
    "frames": Kind(
        "Series",
        "Photos of one scene with neighbouring numbers: a burst, or frames of a video.",
        "Group them (--write-groups), so that none is judged by its neighbour.",
    ),
    "outlier": Kind(
        "Outliers",
        "Unlike the other photos of their class.",
        "Remove what is none of the classes; keep what is only rare, and add more like it.",
    ),
    "blank": Kind("Blank photos", "They show next to nothing.", "Remove them."),
    "tiny": Kind("Tiny photos", "Much smaller than the others.", "Find larger ones."),
    "blurred": Kind("Blurred photos", "They lack fine detail.", "Remove what you cannot name."),
    "dark": Kind("Very dark photos", "Far darker than the others.", "Remove what shows nothing."),
    "bright": Kind("Very bright photos", "Far brighter than the others.",
                   "Remove what shows nothing."),
}  # fmt: skip
GROUPED = ("leak", "conflict", "copy", "frames")  # kinds that are told set by set
assert set(RULES) <= set(KINDS)


@dataclass(frozen=True)
class Photo:
    """One photo: where it is, seen from the data, and what is known of it; sizes are 0 unread.

    One with `content` is no file of its own, and its path is but a name.
    """

    path: str
    split: str
    label: str
    width: int = 0
    height: int = 0
    group: str | None = None
    content: Content | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain data: all but the content."""
        row = asdict(replace(self, content=None))
        del row["content"]
        return row


@dataclass(frozen=True)
class Finding:
    """Something about one photo; of a `kind` the worst or surest come first.

    `score` is higher the worse it is, comparable within a kind. `suggested` is another label,
    `probability` that of it. Findings of one `set` belong together: copies, or frames.
    """

    kind: str
    photo: int
    score: float
    why: str
    suggested: str = ""
    probability: float | None = None
    set: int | None = None


@dataclass(frozen=True)
class Findings:
    """All that a check has found, the most urgent kind first.

    `accuracy` is that of labels out of fold, with its standard error, None where no photo could be
    held out; `groups` are as many as the photos: a name for those that should stay together.
    """

    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    found: tuple[Finding, ...]
    groups: tuple[str, ...]
    accuracy: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    def of(self, kind: str) -> list[Finding]:
        """Return the findings of a kind, in their order."""
        return [finding for finding in self.found if finding.kind == kind]

    def sets(self, kind: str) -> list[list[Finding]]:
        """Return the findings of a kind set by set."""
        found: dict[int | None, list[Finding]] = {}
        for finding in self.of(kind):
            found.setdefault(finding.set, []).append(finding)
        return list(found.values())

    def counts(self) -> dict[str, dict[str, int]]:
        """Return readable photos by class and split; every class and split is there."""
        unread = {finding.photo for finding in self.of("unreadable")}
        read = [photo for i, photo in enumerate(self.photos) if i not in unread]
        splits = list(dict.fromkeys(photo.split for photo in read))
        found = Counter((photo.label, photo.split) for photo in read)
        return {name: {split: found[name, split] for split in splits} for name in self.classes}

    def verdict(self) -> list[str]:
        """Return what to do, the most urgent first; one sentence where nothing is to be done."""
        said = [_advice(kind, self) for kind in KINDS if self.of(kind)]
        said += _balance({name: sum(row.values()) for name, row in self.counts().items()})
        return said or ["Nothing stands out. Train."]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        photos = [photo.to_json() for photo in self.photos]
        row = {**asdict(replace(self, photos=())), "photos": photos}
        return {**row, "counts": self.counts(), "verdict": self.verdict()}


def _advice(kind: str, findings: Findings) -> str:
    row = KINDS[kind]
    count = len(findings.of(kind))
    if kind in GROUPED:
        sets = len(findings.sets(kind))
        how = f"{count} photos in {sets} {'set' if sets == 1 else 'sets'}"
    else:
        how = f"{count} of {len(findings.photos)}"
    return f"{row.title}: {how}. {row.advice}"


def _balance(counts: dict[str, int]) -> list[str]:
    """Return what to say of classes with few photos, or many more than others."""
    said = []
    if few := [name for name, count in counts.items() if count < FEW]:
        more = f" and {len(few) - 3} more" if len(few) > 3 else ""
        said.append(
            f"Few photos: {', '.join(few[:3])}{more} have fewer than {FEW}. More of them are the "
            "surest way to a better model."
        )
    least, most = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
    if counts[most] > LOPSIDED * counts[least]:
        said.append(
            f"Imbalance: {most} has {counts[most]} photos, {least} {counts[least]}. Read the "
            "balanced accuracy; train with --balance where rare classes matter as much."
        )
    return said


def ordered(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings by urgency of their kind, otherwise in their order."""
    places = {kind: place for place, kind in enumerate(KINDS)}
    return tuple(sorted(found, key=lambda finding: places[finding.kind]))
