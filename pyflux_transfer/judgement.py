"""A model's answers to labelled photos, photo by photo: what scores and reports are made of."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer import predict
from pyflux_transfer.data.batches import batches
from pyflux_transfer.data.dataset import CHECKED, Sample, Splits, read_sample, torn
from pyflux_transfer.data.preprocess import load as load_image
from pyflux_transfer.errors import readable
from pyflux_transfer.insight.belonging import Belonging
from pyflux_transfer.insight.metrics import Evaluation, evaluate
from pyflux_transfer.model import Model, refuse_imagenet
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.predict import DIGITS, softmax

if TYPE_CHECKING:
    from pyflux_transfer.data.listing import Labelled
    from pyflux_transfer.engines.base import Labels
    from pyflux_transfer.training.callbacks import Watcher
    from pyflux_transfer.training.options import Options

COLUMNS = (
    "path", "label", "predicted", "probability", "probability_of_label", "right", "belonging",
    "sure",
)  # fmt: skip
SPLITS = ("training", "validation", "test")


@dataclass(frozen=True)
class Judgement:
    """Photos, their labels, and what a model answered: logits (N,C) float32."""

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    logits: Array
    temperature: float
    split: str  # which of the source's splits; "" where it has but one
    seconds: float  # reading and computing
    scores: Array | None = None  # (N,) of belonging
    belonging: Belonging | None = None

    @cached_property
    def labels(self) -> Labels:
        """The true classes (N,)."""
        return np.array([sample.label for sample in self.samples], np.int64)

    @cached_property
    def probabilities(self) -> Array:
        """Probabilities (N,C) at the model's temperature."""
        return softmax(self.logits, self.temperature)

    @cached_property
    def called(self) -> Labels:
        """The answers (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    def flatters(self, info: Mapping[str, Any]) -> bool:
        """Tell whether a model of this `info` may have learnt from these photos.

        As far as counts tell: as many trained it, and they are not a split kept back.
        """
        learnt = info.get("training", {}).get("images")
        return self.split in ("", "training") and learnt == len(self.samples)

    def evaluation(self) -> Evaluation:
        """Return the scores."""
        found = evaluate(self.probabilities, self.labels, self.classes)
        return replace(found, unsure=None if self.sure is None else int((~self.sure).sum()))

    @cached_property
    def sure(self) -> NDArray[np.bool_] | None:
        """Whether each photo (N,) is like those that were learnt; None where nobody can tell."""
        if self.belonging is None or self.scores is None:
            return None
        return self.belonging.sure(self.scores)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the values of `COLUMNS`, a row a photo."""
        answers = zip(self.samples, self.probabilities, self.called, strict=True)
        for i, (sample, row, called) in enumerate(answers):
            told = ("", "")
            if self.sure is not None and self.scores is not None:
                told = (f"{self.scores[i]:.{DIGITS}f}", "yes" if self.sure[i] else "no")
            yield (
                readable(sample.path), self.classes[sample.label], self.classes[called],
                f"{row[called]:.{DIGITS}f}", f"{row[sample.label]:.{DIGITS}f}",
                "yes" if called == sample.label else "no", *told,
            )  # fmt: skip


def write_rows(judged: Judgement, file: TextIO) -> None:
    """Write a line a photo as CSV."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(judged.rows())


def judge(model: Model, data: Labelled | Splits, options: Options, watcher: Watcher) -> Judgement:
    """Ask a model about labelled photos; `data`, and which split is taken, as in `evaluate`."""
    refuse_imagenet(model)
    splits = options.reader(watcher).read(data, model.classes, training=False)
    *others, dataset = splits.parts
    for line in torn(dataset, others, "these images and other splits, which flatters the scores"):
        watcher.line(line)
    for item in dataset.skipped:
        watcher.line(str(item))
    read = partial(_load, preprocessing=model.preprocessing)
    found, scores, begun = [], [], time.perf_counter()
    with watcher.bar("evaluation", len(dataset.samples)) as advance:
        for x, y in batches(read, dataset.samples, options.batch_size, workers=options.workers):
            logits, score = predict.answers(model.network, x, model.belonging)
            found.append(logits)
            scores += [] if score is None else [score]
            advance(len(y))
    index = next(i for i, part in enumerate((splits.train, splits.valid, splits.test))
                 if part is dataset)  # fmt: skip
    return Judgement(
        dataset.samples, tuple(model.classes), np.concatenate(found), model.temperature,
        SPLITS[index] if others else "", time.perf_counter() - begun,
        np.concatenate(scores) if scores else None, model.belonging,
    )  # fmt: skip


def _load(sample: Sample, preprocessing: Preprocessing) -> Array:
    return read_sample(sample, partial(load_image, preprocessing=preprocessing, max_pixels=CHECKED))
