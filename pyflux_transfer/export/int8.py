"""An exported file in 8 bits: ONNX Runtime's static quantisation, judged on photos."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime import quantization

from pyflux_transfer.bundle import Bundle
from pyflux_transfer.data.decode import Source
from pyflux_transfer.errors import ExportError, InputError
from pyflux_transfer.export.graph import with_shapes
from pyflux_transfer.export.running import Exported, answerable, read, seconds

LEAST = 10  # photos
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
    bytes: int

    @property
    def loss(self) -> float:
        """The share of right answers that is lost; without labels that of other answers."""
        if self.before is None or self.after is None:
            return 1 - self.agreement
        return self.before - self.after


def check(named: Sequence[tuple[str, Source]], max_loss: float) -> None:
    """Refuse photos that are too few to tell, and a share that is none, before the work."""
    if len(named) < LEAST:
        raise InputError(
            f"8 bits are calibrated on photos and judged on others: {len(named)} are too few. "
            f"Give a folder of {LEAST} or more."
        )
    if not 0 <= max_loss <= 1:
        raise InputError(f"max_loss (--max-loss) must be from 0 to 1, got {max_loss}.")


def quantise(
    model: Path, target: Path, bundle: Bundle, named: Sequence[tuple[str, Source]], max_loss: float
) -> Quantised:
    """Write `model` in 8 bits to `target`: calibrated on every second photo, judged on the others.

    Raises ExportError where more than `max_loss` is lost.
    """
    calibrating, judging = _thinned(named[::2], CALIBRATED), _thinned(named[1::2], JUDGED)
    exported = Exported(model)
    _quantise(model, target, _Batches(exported, bundle, calibrating))
    result = _judged(exported, Exported(target), bundle, judging, len(calibrating), target)
    if result.loss > max_loss:
        what = "answers change" if result.before is None else "accuracy is lost"
        raise ExportError(
            f"In 8 bits {result.loss:.1%} of {what} on {result.judged} photos, more than "
            f"{max_loss:.1%}. Nothing was written. Export without --int8 (int8=), or allow more by "
            "--max-loss (max_loss=)."
        )
    return result


class _Batches:
    """What the quantiser calls a CalibrationDataReader."""

    def __init__(
        self, exported: Exported, bundle: Bundle, named: Sequence[tuple[str, Source]]
    ) -> None:
        self._given = self._all(exported, bundle, named)

    @staticmethod
    def _all(
        exported: Exported, bundle: Bundle, named: Sequence[tuple[str, Source]]
    ) -> Iterator[dict[str, Any]]:
        for photo in read(named, bundle):
            yield {exported.name: answerable(exported, photo.pixels, bundle)}

    def get_next(self) -> dict[str, Any] | None:
        """Return the next input, None at the end."""
        return next(self._given, None)


def _quantise(model: Path, target: Path, batches: _Batches) -> None:
    """Quantise the network alone: pixels, temperature and softmax keep their digits."""
    graph = with_shapes(onnx.load(str(model)))
    kept = [
        node.name for node in graph.graph.node
        if node.name.startswith("prepare/") or "/" not in node.name
    ]  # fmt: skip
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises on standard error
    try:
        quantization.quantize_static(
            graph, str(target), batches, quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_OPS), per_channel=True, nodes_to_exclude=kept,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"ActivationSymmetric": False},
        )  # fmt: skip
    finally:
        logging.root.setLevel(level)


def _judged(
    exact: Exported, small: Exported, bundle: Bundle, named: Sequence[tuple[str, Source]],
    calibrated: int, target: Path,
) -> Quantised:  # fmt: skip
    called: list[tuple[int, int]] = []
    given: Any = None
    for photo in read(named, bundle):
        given = answerable(exact, photo.pixels, bundle)
        called.append((int(exact(given).argmax()), int(small(given).argmax())))
    before, after = np.array(called).T
    labels = _labels(named, bundle)
    return Quantised(
        calibrated, len(called),
        None if labels is None else float((before == labels).mean()),
        None if labels is None else float((after == labels).mean()),
        float((before == after).mean()),
        seconds(lambda: exact(given)), seconds(lambda: small(given)),
        target.stat().st_size,
    )  # fmt: skip


def _labels(named: Sequence[tuple[str, Source]], bundle: Bundle) -> Any:
    """Return the classes that photos lie in the folders of; None where one does not."""
    numbers = {name: number for number, name in enumerate(bundle.classes)}
    folders = [Path(s).parent.name if isinstance(s, (str, Path)) else "" for _, s in named]
    if not all(folder in numbers for folder in folders):
        return None
    return np.array([numbers[folder] for folder in folders])


def _thinned(named: Sequence[tuple[str, Source]], most: int) -> Sequence[tuple[str, Source]]:
    """Return so many at most, spread over all."""
    places = np.linspace(0, len(named) - 1, min(len(named), most)).round().astype(int)
    return [named[place] for place in places]
