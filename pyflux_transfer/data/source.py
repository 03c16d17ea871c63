"""Where labelled images come from: a folder or a table is scanned, and divided where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyflux_transfer.data import readable
from pyflux_transfer.data.dataset import Bar, Dataset, Splits, scan, split
from pyflux_transfer.data.decode import MAX_PIXELS
from pyflux_transfer.errors import InputError
from pyflux_transfer.storage import features_folder


@dataclass(frozen=True)
class Reader:
    """How sources are read: by so many threads, within a limit of pixels, with a progress bar."""

    workers: int = 2
    max_pixels: int = MAX_PIXELS
    bar: Bar | None = None

    def read(self, source: str | Path | Splits, classes: Sequence[str] | None = None) -> Splits:
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
            bar=self.bar,
        )  # fmt: skip
        if limit <= MAX_PIXELS:
            found = {sample.digest for part in splits.parts for sample in part.samples}
            readable.remember(folder, sorted(found - known))
        return splits

    def divided(
        self,
        data: str | Path | Splits,
        valid: str | Path | float | None,
        classes: Sequence[str],
        seed: int,
    ) -> tuple[Dataset, Dataset | None]:
        """Return training and validation images of the given classes.

        `valid` is a folder or a table, a share (0–1) taken from the training images, or None; a
        source that brings its own validation images uses them rather than a share.
        """
        splits = self.read(data, classes)
        if isinstance(valid, (str, Path)):
            return splits.train, self.read(valid, classes).train
        if splits.valid is not None or not valid:
            return splits.train, splits.valid
        return split(splits.train, valid, seed)


def _check_classes(splits: Splits, classes: Sequence[str] | None) -> None:
    if classes is not None and splits.train.classes != tuple(classes):
        raise InputError(
            f"The data's classes ({', '.join(splits.train.classes)}) are not the classifier's "
            f"({', '.join(classes)}). Make a head for them: net.with_head(classes)."
        )
