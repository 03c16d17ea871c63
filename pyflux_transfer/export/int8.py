"""An exported file in 8 bits: ONNX Runtime's static quantisation, judged on photos."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime import quantization

from pyflux_transfer.bundle import Bundle
from pyflux_transfer.errors import ExportError, InputError
from pyflux_transfer.export.running import (
    Exported,
    Named,
    Photo,
    answerable,
    read,
    seconds,
    thinned,
)

LEAST = 8  # photos
CALIBRATED, JUDGED = 100, 500  # photos at most
_OPS = ("Conv", "MatMul", "Gemm", "Add", "Relu", "Clip", "MaxPool", "Concat")


@dataclass(frozen=True)
class Quantised:
    """What 8 bits cost and gain, on photos that they were not calibrated on.

    `before` and `after` are accuracies where the photos lie in folders of the classes' names, else
    None; `agreement` is the share of photos that are called the same.
    """

    calibrated: int
    judged: int
    before: float | None
    after: float | None
    agreement: float
    before_s: float
    after_s: float

    @property
    def loss(self) -> float:
        """The share of right answers that is lost; without labels that of other answers."""
        if self.before is None or self.after is None:
            return 1 - self.agreement
        return self.before - self.after


def check(named: Named, max_loss: float) -> None:
    """Refuse photos that are too few to tell, and a share that is none, before the work."""
    if len(named) < LEAST:
        raise InputError(
            f"8 bits are calibrated on photos and judged on others: {len(named)} are too few. "
            f"Give a folder of {LEAST} or more."
        )
    if not 0 <= max_loss <= 1:
        raise InputError(f"max_loss (--max-loss) must be from 0 to 1, got {max_loss}.")


def quantise(
    model: Path, target: Path, bundle: Bundle, named: Named, max_loss: float, max_pixels: int
) -> Quantised:
    """Write `model` in 8 bits to `target`: calibrated on every second photo, judged on the others.

    Raises ExportError where more than `max_loss` is lost.
    """
    calibrating, judging = thinned(named[::2], CALIBRATED), thinned(named[1::2], JUDGED)
    exported = Exported(model)
    _quantise(model, target, _Batches(exported, bundle, read(calibrating, bundle, max_pixels)))
    called, given = [], None
    small = Exported(target)
    for photo in read(judging, bundle, max_pixels):
        given = answerable(exported, photo.pixels, bundle)
        called.append((int(exported(given).argmax()), int(small(given).argmax())))
    before, after = np.array(called).T
    labels = _labels(judging, bundle)
    result = Quantised(
        len(calibrating), len(judging),
        None if labels is None else float((before == labels).mean()),
        None if labels is None else float((after == labels).mean()),
        float((before == after).mean()),
        seconds(lambda: exported(given)), seconds(lambda: small(given)),
    )  # fmt: skip
    if result.loss > max_loss:
        what = "the answers change" if result.before is None else "the accuracy is lost"
        raise ExportError(
            f"In 8 bits {result.loss:.1%} of {what} on {result.judged} photos, more than "
            f"{max_loss:.1%}. Nothing was written. Export it without 8 bits, or allow more: "
            "max_loss (--max-loss)."
        )
    return result


class _Batches:
    """What the quantiser calls a CalibrationDataReader."""

    def __init__(self, exported: Exported, bundle: Bundle, photos: Iterable[Photo]) -> None:
        self._given = (
            {exported.name: answerable(exported, photo.pixels, bundle)} for photo in photos
        )

    def get_next(self) -> dict[str, Any] | None:
        """Return the next input, None at the end."""
        return next(self._given, None)


def _quantise(model: Path, target: Path, batches: _Batches) -> None:
    """Quantise the network alone: pixels, belonging, temperature and softmax keep their digits."""
    kept = [
        node.name for node in onnx.load(str(model)).graph.node
        if node.name.startswith(("prepare/", "belonging/")) or "/" not in node.name
    ]  # fmt: skip
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises on standard error
    try:
        quantization.quantize_static(
            str(model), str(target), batches, quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_OPS), per_channel=True, nodes_to_exclude=kept,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
    finally:
        logging.root.setLevel(level)


def _labels(named: Named, bundle: Bundle) -> Any:
    """Return the classes that photos lie in the folders of; None where one does not."""
    numbers = {name: number for number, name in enumerate(bundle.classes)}
    folders = [Path(s).parent.name if isinstance(s, (str, Path)) else "" for _, s in named]
    if not all(folder in numbers for folder in folders):
        return None
    return np.array([numbers[folder] for folder in folders])
