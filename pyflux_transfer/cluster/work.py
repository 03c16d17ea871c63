"""One worker's part of a job: the network once, then photos to records, a share at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from pyflux_transfer import predict
from pyflux_transfer._version import __version__
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.cluster.photos import Photo, content
from pyflux_transfer.cluster.records import Record
from pyflux_transfer.data.batches import map_ahead
from pyflux_transfer.data.decode import MAX_PIXELS
from pyflux_transfer.data.preprocess import load_picture, prepared
from pyflux_transfer.engines.base import Device, Network, Plan, Precision
from pyflux_transfer.errors import ImageError, InputError, readable
from pyflux_transfer.model import Model
from pyflux_transfer.networks.shapes import trace
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.training.features import fingerprint, trunk_key

Kind = Literal["probabilities", "features"]
SHARE = 256  # photos a part: what a killed worker loses


@dataclass(frozen=True)
class Job:
    """What is to be said of photos: a bundle's probabilities, or the features before its `cut`."""

    kind: Kind
    bundle: Bundle
    cut: int
    engine: str = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    batch_size: int = 16
    threads: int = 2
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads", "max_pixels"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one photo's values."""
        if self.kind == "probabilities":
            return (len(self.bundle.classes),)
        units, side = Plan(self.bundle.row, self.bundle.head).units, self.bundle.preprocessing.crop
        if not self.cut:
            return (3, side, side)
        return trace(units, (1, 3, side, side))[self.cut - 1].output[1:]

    def meta(self) -> dict[str, Any]:
        """Return all that decides the values, as plain data: two equal ones may share a folder."""
        bundle, shape = self.bundle, self.shape
        names = list(bundle.classes) if self.kind == "probabilities" else None
        if names is None and len(shape) == 1:
            names = [str(i) for i in range(shape[0])]
        return {
            "values": self.kind,
            "shape": list(shape),
            "names": names,
            "architecture": bundle.architecture,
            "head": asdict(bundle.head) if bundle.head else None,
            "cut": self.cut,
            "weights": fingerprint(bundle.state),
            "preprocessing": bundle.preprocessing.to_json(),
            "temperature": bundle.temperature,
            "belonging": bundle.belonging and bundle.belonging.to_json(),
            "engine": self.engine,
            "device": self.device,
            "precision": self.precision,
            "version": __version__,
        }


class Worker:
    """Loads a job's network when it is made, and answers for shares of photos."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.network = predict.restore(job.bundle, job.engine, job.device, job.precision)
        self.network.cut_at(resolve_cut(self.network.units, job.cut))
        # Under this name the feature cache keeps what this network makes on this machine.
        features = job.kind == "features"
        self.store = trunk_key(self.network, job.bundle.preprocessing) if features else None

    def __call__(self, photos: Sequence[Photo]) -> list[Record]:
        """Return a record for each photo that is not kept under its digest already."""
        job, found = self.job, list[Record]()
        read = _Reader(job)
        with closing(
            map_ahead(read, photos, workers=job.threads, ahead=2 * job.batch_size)
        ) as found_ahead:
            waiting: list[_Read] = []
            for each in found_ahead:
                if each.record:
                    found.append(self._told(each.record))
                elif each.image is not None:
                    waiting.append(each)
                if len(waiting) == job.batch_size:
                    found += self._answers(waiting)
                    waiting = []
        found += self._answers(waiting)
        return sorted(found, key=lambda record: record.path)

    def _answers(self, read: Sequence[_Read]) -> list[Record]:
        answers = ANSWERS[self.job.kind](self.network, self.job, read) if read else ()
        return [self._told(record) for record in answers]

    def _told(self, record: Record) -> Record:
        return replace(record, more={**record.more, "store": self.store}) if self.store else record


@dataclass(frozen=True)
class _Read:
    """A photo that was read: its image, or a record of why not; neither where it is kept."""

    photo: Photo
    digest: str = ""
    image: Array | None = None
    note: str | None = None
    record: Record | None = None


@dataclass(frozen=True)
class _Reader:
    job: Job

    def __call__(self, photo: Photo) -> _Read:
        """Read, hash and decode: what is hashed is what is decoded."""
        job, digest = self.job, ""
        try:
            data = content(photo.path, job.max_pixels)
            digest = hashlib.sha256(data).hexdigest()
            if digest == photo.known:
                return _Read(photo)
            picture = load_picture(data, job.bundle.preprocessing, max_pixels=job.max_pixels)
            image = prepared(picture, job.bundle.preprocessing)
        except ImageError as error:
            if digest == photo.known:
                return _Read(photo)
            reason = str(error).split(" cannot be read: ", 1)[-1]
            label = photo.label if job.kind == "features" else None
            record = Record(
                readable(photo.path), digest, label, reason=reason, more=_blank(job, photo)
            )
            return _Read(photo, record=record)
        note = "lacks only its end" if picture.mended else None
        return _Read(photo, digest, image, note)


def _blank(job: Job, photo: Photo) -> dict[str, Any]:
    """Return the columns of a photo that has no values."""
    if job.kind == "features":
        return {"split": photo.split, "group": photo.group}
    known = ("belonging", "sure") if job.bundle.belonging else ()
    return dict.fromkeys(("probability", *known))


def _answered(network: Network, job: Job, read: Sequence[_Read]) -> Iterator[Record]:
    """Answer as `predict` does: what a prediction tells besides its labels becomes columns."""
    images = np.stack([each.image for each in read if each.image is not None])
    bundle = job.bundle
    places = {name: i for i, name in enumerate(bundle.classes)}
    answers = predict.predict(
        network, bundle.classes, bundle.preprocessing, images,
        top=len(bundle.classes), batch_size=job.batch_size, temperature=bundle.temperature,
        belonging=bundle.belonging,
    )  # fmt: skip
    for each, answer in zip(read, answers, strict=True):
        assert isinstance(answer, predict.Prediction)
        row = answer.to_json()
        values = np.zeros(len(places), np.float32)
        for best in row.pop("top"):
            values[places[best["label"]]] = best["probability"]
        label, _ = row.pop("label"), row.pop("name")
        more = {k: v for k, v in row.items() if v is None or isinstance(v, (bool, float, int, str))}
        yield Record(
            readable(each.photo.path), each.digest, label, values, note=each.note, more=more
        )


def _embedded(network: Network, job: Job, read: Sequence[_Read]) -> Iterator[Record]:
    images = np.stack([each.image for each in read if each.image is not None])
    for each, row in zip(read, network.embed(images), strict=True):
        photo = each.photo
        more = _blank(job, photo)
        yield Record(readable(photo.path), each.digest, photo.label, row, note=each.note, more=more)


ANSWERS: dict[Kind, Callable[[Network, Job, Sequence[_Read]], Iterator[Record]]] = {
    "probabilities": _answered,
    "features": _embedded,
}


def features_of(model: Model, cut: int | str, **options: Any) -> Job:
    """Return the job of computing what a model's units before `cut` make of photos."""
    bundle = Bundle(
        model.plan.architecture.name, model.classes, model.plan.head, model.preprocessing,
        model.network.cut, model.network.state(),
    )  # fmt: skip
    return Job("features", bundle, resolve_cut(model.network.units, cut), **options)


def predictions_of(bundle: Bundle, **options: Any) -> Job:
    """Return the job of answering for photos with a bundle."""
    head = resolve_cut(Plan(bundle.row, bundle.head).units, "head")
    return Job("probabilities", bundle, head, **options)
