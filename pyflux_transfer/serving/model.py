"""What a worker serves: the loader's result, and the loader for bundles."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pyflux_transfer import bundle as bundles
from pyflux_transfer import predict
from pyflux_transfer._version import __version__
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.data.overlay import overlay, small_png
from pyflux_transfer.engines.base import Network
from pyflux_transfer.errors import BundleError, InputError
from pyflux_transfer.explain import heats_of
from pyflux_transfer.insight.belonging import Belonging
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.serving.watch import signature
from pyflux_transfer.storage import file_digest

Report = Callable[[str], None]


@dataclass(frozen=True)
class Description:
    """Everything about a served model but its weights, as it crosses to the web process."""

    id: str
    architecture: str
    engine: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    info: dict[str, Any] = field(default_factory=dict)
    belonging: dict[str, Any] | None = None  # threshold, kept, photos

    @property
    def numbers(self) -> int:
        """How many an answer has: a probability a class and, where it is known, its belonging."""
        return len(self.classes) + (self.belonging is not None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "id": self.id,
            "architecture": self.architecture,
            "engine": self.engine,
            "classes": list(self.classes),
            "preprocessing": {**self.preprocessing.to_json(), "fit": self.preprocessing.fit},
            "belonging": self.belonging,
            "info": self.info,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Description:
        """Return what `to_json` was called on."""
        classes, preprocessing = row["classes"], row["preprocessing"]
        return cls(
            **{
                **row,
                "classes": tuple(classes),
                "preprocessing": Preprocessing.from_json(preprocessing),
            }
        )


class Model(Protocol):
    """What a loader returns; `lanes` threads may call `predict` at a time."""

    description: Description
    lanes: int

    def predict(self, images: Array) -> Array:
        """Return probabilities (N, classes) of images (N, 3, crop, crop), all float32."""


Loader = Callable[[Path, dict[str, str], Report], Model]


def find_loader(dotted: str) -> Loader:
    """Return the function named `module:function`."""
    module, _, name = dotted.partition(":")
    try:
        loader: Loader = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"The loader {dotted!r} cannot be imported: {error}.") from error
    return loader


@dataclass(frozen=True)
class BundleModel:
    """A bundle in an engine."""

    description: Description
    predict: Callable[[Array], Array]
    lanes: int
    explain: Callable[[Pixels, Array], list[bytes]]
    answer: Callable[[Array], tuple[Array, Array | None]]  # probabilities, and belonging (N,)


def open_bundle(path: Path, options: dict[str, str], report: Report) -> BundleModel:
    """Load a bundle into an engine; `options` holds engine, device and precision.

    `report` is told "installing" before what may take minutes (a first compilation). Raises
    BundleError, WeightsError or EngineError.
    """
    bundle, digest = _read(path)
    check_finite(bundle.state)
    device, precision = options["device"], options["precision"]
    name, _ = predict.engine_for(bundle, options["engine"], device, precision, maps=True)
    if name == "flux":
        report("installing")
    network = predict.restore(bundle, name, device, precision)  # type: ignore[arg-type]
    info = {
        "device": network.device,
        "precision": network.precision,
        "versions": {"pyflux_transfer": __version__, "python": platform.python_version()},
        "training": _finite(bundle.info),
    }
    description = Description(
        id=digest,
        architecture=bundle.architecture,
        engine=network.engine,
        classes=bundle.classes,
        preprocessing=bundle.preprocessing,
        info=info,
        belonging=bundle.belonging.promise() if bundle.belonging else None,
    )
    answer = partial(predict.probabilities, network, temperature=bundle.temperature)
    explain = partial(_explained, network, bundle.preprocessing)
    whole = partial(_answers, network, bundle.temperature, bundle.belonging)
    return BundleModel(description, answer, network.concurrency, explain, whole)


def _answers(
    network: Network, temperature: float, belonging: Belonging | None, images: Array
) -> tuple[Array, Array | None]:
    """Return probabilities (N, classes), and how much the images belong (N,)."""
    logits, scores = predict.answers(network, images, belonging)
    return predict.softmax(logits, temperature), scores


def _explained(
    network: Network, preprocessing: Preprocessing, pixels: Pixels, answers: Array
) -> list[bytes]:
    """Return small PNGs of images under the heat of their answers."""
    heats = heats_of(network, preprocessing, pixels, answers.argmax(axis=1))
    return [small_png(overlay(image, heat)) for image, heat in zip(pixels, heats, strict=True)]


def check_finite(state: Mapping[str, Array]) -> None:
    """Refuse weights that are not finite, by the name of the first such tensor."""
    for name, tensor in state.items():
        if not np.isfinite(tensor).all():
            raise BundleError(
                f"The tensor '{name}' holds values that are not finite. Train the model again."
            )


def _finite(value: Any) -> Any:
    """Put None in the place of NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(path: Path) -> tuple[Bundle, str]:
    """Read a bundle and its digest, both of the same file: it may be replaced at any moment."""
    while True:
        before = signature(path)
        bundle, digest = bundles.read(path), file_digest(path)
        if signature(path) == before:
            return bundle, digest[:12]
