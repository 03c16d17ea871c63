"""Pictures of a run: its history, and which classes were taken for which."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyflux_transfer.errors import InputError, StorageError

NAMED, COUNTED = 60, 20  # classes up to which a picture tells their names, and their counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyflux_transfer.insight.metrics import Evaluation
    from pyflux_transfer.training.callbacks import Record


def drawable(path: Path) -> None:
    """Refuse a file that cannot be drawn into, before there is something to draw."""
    kinds = sorted(_figure().canvas.get_supported_filetypes())
    if path.suffix[1:].lower() not in kinds:
        raise InputError(f"A plot's name must end in .{', .'.join(kinds)}, got '{path}'.")


def history(records: Sequence[Record], path: Path) -> Path:
    """Draw losses and accuracy over the epochs into an image file (.png, .svg, .pdf)."""
    drawable(path)
    figure = _figure()
    epochs = [record.epoch for record in records]
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [record.train_loss for record in records], marker="o", label="training")
    if records[0].valid_loss is not None:
        loss.plot(epochs, [record.valid_loss for record in records], marker="o", label="validation")
        percent = [100 * (record.valid_accuracy or 0) for record in records]
        accuracy.plot(epochs, percent, marker="o", color="C1")
    loss.set(title="loss", xlabel="epoch", ylabel="nats an image")
    loss.legend()
    accuracy.set(title="validation accuracy", xlabel="epoch", ylabel="%")
    for start in _phase_starts(records):
        loss.axvline(start - 0.5, color="grey", linestyle=":")
        accuracy.axvline(start - 0.5, color="grey", linestyle=":")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise StorageError(f"Cannot draw into '{path}': {error.strerror}.") from error
    return path


def confusion(scores: Evaluation) -> bytes:
    """Draw how many of each class were called what, as a PNG. Raises InputError."""
    names = [row.label for row in scores.classes]
    figure, count = _figure(), len(names)
    side = min(max(3.2, 0.45 * count + 2), 12)
    figure.set_size_inches(side + 0.8, side)
    axes = figure.subplots()
    cells = np.array(scores.confusion, float)
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the class", fraction=0.046)
    axes.set(xlabel="called", ylabel="is", title=f"{scores.accuracy:.1%} of {scores.count} right")
    if count <= NAMED:
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
    if count <= COUNTED:
        for (i, j), n in np.ndenumerate(cells):
            color = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, f"{n:.0f}", ha="center", va="center", color=color)
    file = io.BytesIO()
    figure.savefig(file, dpi=100, format="png")
    return file.getvalue()


def _figure() -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "A plot needs matplotlib. Install it: pip install 'pyflux-transfer[plot]'."
        ) from None
    return Figure(figsize=(8, 3.2), layout="constrained")


def _phase_starts(records: Sequence[Record]) -> list[int]:
    """Return the first epoch of each phase but the first."""
    return [b.epoch for a, b in pairwise(records) if a.phase != b.phase]
