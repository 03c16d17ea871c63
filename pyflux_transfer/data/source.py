"""Where training images come from: a folder or a table is scanned, and divided where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyflux_transfer.data.dataset import Dataset, Splits, scan, split
from pyflux_transfer.data.decode import MAX_PIXELS
from pyflux_transfer.errors import InputError
from pyflux_transfer.training import store
from pyflux_transfer.training.callbacks import Watcher
from pyflux_transfer.training.options import Options


def read(
    source: str | Path | Splits, classes: Sequence[str] | None, options: Options, watcher: Watcher
) -> Splits:
    """Scan a source, for `classes` in their order where given; what is scanned already is checked.

    Images seen to be readable in an earlier run are not decoded again.
    """
    if isinstance(source, Splits):
        if classes is not None and source.train.classes != tuple(classes):
            raise InputError(
                f"The data's classes ({', '.join(source.train.classes)}) are not the classifier's "
                f"({', '.join(classes)}). Make a head for them: net.with_head(classes)."
            )
        return source
    folder, limit = store.features_folder(), options.max_pixels
    # What was readable within the usual limit of pixels need not be within a lower one.
    known = store.readable(folder) if limit >= MAX_PIXELS else set()
    splits = scan(
        source, classes=classes, known_good=known, workers=options.workers, max_pixels=limit,
        bar=watcher.bar,
    )  # fmt: skip
    if limit <= MAX_PIXELS:
        found = {sample.digest for part in parts(splits) for sample in part.samples}
        store.remember_readable(folder, sorted(found - known))
    return splits


def divided(
    data: str | Path | Splits,
    valid: str | Path | float | None,
    classes: Sequence[str],
    options: Options,
    watcher: Watcher,
) -> tuple[Dataset, Dataset | None]:
    """Return training and validation images of the given classes.

    `valid` is a folder or a table, a share (0–1) taken from the training images, or None; a
    source that brings its own validation images uses them rather than a share.
    """
    splits = read(data, classes, options, watcher)
    if isinstance(valid, (str, Path)):
        return splits.train, read(valid, classes, options, watcher).train
    if splits.valid is not None or not valid:
        return splits.train, splits.valid
    return split(splits.train, valid, options.seed)


def parts(splits: Splits) -> list[Dataset]:
    """Return training, validation and test images, as far as there are any."""
    return [part for part in (splits.train, splits.valid, splits.test) if part is not None]
