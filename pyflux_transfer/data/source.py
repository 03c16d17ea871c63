"""Where labelled images come from: a folder or a table is scanned, and divided where it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyflux_transfer.data import readable
from pyflux_transfer.data.dataset import MAX_SKIPPED, Bar, Dataset, Splits, scan, split
from pyflux_transfer.data.decode import MAX_PIXELS
from pyflux_transfer.data.listing import Labelled
from pyflux_transfer.errors import InputError
from pyflux_transfer.storage import features_folder

_SHOWN = 50  # classes that are told one by one


@dataclass(frozen=True)
class Reader:
    """How sources are read: by so many threads, within limits, with a progress bar.

    `line` is told what a user should know.
    """

    workers: int = 2
    max_pixels: int = MAX_PIXELS
    bar: Bar | None = None
    line: Callable[[str], None] | None = None
    max_skipped: float = MAX_SKIPPED

    def read(
        self,
        source: Labelled | Splits,
        classes: Sequence[str] | None = None,
        *,
        training: bool = True,
    ) -> Splits:
        """Scan a source, for `classes` in their order where given; what is scanned is checked.

        Images seen to be readable in an earlier run are not decoded again.
        """
        if isinstance(source, Splits):
            _check_classes(source, classes)
            return source
        folder, limit = features_folder(), self.max_pixels
        # What was readable within the usual limit of pixels need not be within a lower one.
        known = readable.known(folder) if limit >= MAX_PIXELS else set()
        splits = scan(
            source, classes=classes, known_good=known, workers=self.workers, max_pixels=limit,
            bar=self.bar, max_skipped=self.max_skipped, training=training,
        )  # fmt: skip
        self._say(*splits.notes)
        if limit <= MAX_PIXELS:
            found = {
                sample.digest
                for part in splits.parts
                for sample in part.samples
                if not sample.mended
            }
            readable.remember(folder, sorted(found - known))
        return splits

    def divided(
        self,
        data: Labelled | Splits,
        valid: Labelled | float | None,
        classes: Sequence[str],
        seed: int,
    ) -> tuple[Dataset, Dataset | None]:
        """Return training and validation images of the given classes.

        `valid` is a source of its own, a share (0–1) taken from the training images, or None; a
        source that brings its own validation images uses them rather than a share.
        """
        splits = self.read(data, classes)
        training, validation = splits.train, splits.valid
        if valid is not None and not isinstance(valid, (int, float)):
            validation = _judging(self.read(valid, classes, training=False))
        elif validation is None and valid:
            training, validation = split(training, valid, seed)
        return training, validation

    def _say(self, *lines: str) -> None:
        if self.line:
            for line in lines:
                self.line(line)


def _judging(splits: Splits) -> Dataset:
    """Return the images of a source that is to judge: all of it, where it has no splits."""
    return splits.train if splits.train.samples else splits.parts[-1]


def told(dataset: Dataset) -> str:
    """Tell the classes and their images; of many classes the smallest and the largest."""
    counts = sorted(dataset.counts.items(), key=lambda item: item[1])
    if len(counts) <= _SHOWN:
        return "classes: " + ", ".join(f"{name} {n}" for name, n in dataset.counts.items())
    (few, least), (many, most) = counts[0], counts[-1]
    return f"classes: {len(counts)}, from {few} with {least} images to {many} with {most}"


def _check_classes(splits: Splits, classes: Sequence[str] | None) -> None:
    if classes is not None and splits.train.classes != tuple(classes):
        raise InputError(
            f"The data's classes ({', '.join(splits.train.classes)}) are not the classifier's "
            f"({', '.join(classes)}). Make a head for them: net.with_head(classes)."
        )
