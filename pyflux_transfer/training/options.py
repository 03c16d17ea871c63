"""The options of training, validated where they are made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypedDict

import numpy as np

from pyflux_transfer.data import augment
from pyflux_transfer.data.dataset import MAX_SKIPPED
from pyflux_transfer.data.decode import MAX_PIXELS
from pyflux_transfer.data.source import Reader
from pyflux_transfer.engines.base import Labels, Precision, Update
from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.networks.numbers import plain
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training.callbacks import Watcher
from pyflux_transfer.training.schedule import SCHEDULES

SOLVERS = ("steps", "lbfgs")
# What a resumed run may change, since it changes no result.
UNDECISIVE = frozenset({"workers", "max_pixels", "max_skipped", "precision"})
_LEAST = {"batch_size": 1, "views": 0, "workers": 1, "max_pixels": 1, "seed": 0}
_NUMBERS = ("lr_decay", "weight_decay", "momentum", "label_smoothing", "max_skipped")


class OptionFields(TypedDict, total=False):
    """The same fields as `Options`, for calls that pass some of them by name."""

    optimizer: str
    lr_decay: float
    schedule: str
    weight_decay: float
    momentum: float
    label_smoothing: float
    class_weights: Literal["auto"] | Mapping[str, float] | None
    augment: str | Sequence[str]
    views: int
    batch_size: int
    seed: int
    patience: int | None
    freeze_bn: bool
    precision: Precision | None
    solver: str
    workers: int
    max_pixels: int
    max_skipped: float


@dataclass(frozen=True)
class Options:
    """How to train; every field can be given to `fit` and `fine_tune` by name.

    `lr_decay` multiplies the rate once for each stage further down from the head. `augment` names
    augmentations ("none", "light", "strong", "flip,crop" …); with `views=k` each image is
    augmented k times in all and its features are cached, with 0 it is augmented anew each epoch.
    `class_weights` is None, "auto" (inverse frequency) or {class: weight}. `patience` stops after
    so many epochs without a better validation, in fine-tuning the phase. `freeze_bn` keeps
    BatchNorm's statistics in the trained part as they are: those of few photos are noise.
    `precision` changes the network's, None keeps it. `solver="lbfgs"` trains
    a linear head to the optimum of its loss plus weight_decay/2·‖W‖². `workers` threads decode
    images, of which none may have more than `max_pixels`; a share of `max_skipped` may be
    unreadable. NumPy's numbers are taken like Python's.
    """

    optimizer: str = "adamw"
    lr_decay: float = 0.3
    schedule: str = "cosine"
    weight_decay: float = 0.01
    momentum: float = 0.9
    label_smoothing: float = 0.0
    class_weights: Literal["auto"] | Mapping[str, float] | None = None
    augment: str | Sequence[str] = "none"
    views: int = 0
    batch_size: int = 32
    seed: int = 0
    patience: int | None = None
    freeze_bn: bool = True
    precision: Precision | None = None
    solver: str = "steps"
    workers: int = 2
    max_pixels: int = MAX_PIXELS
    max_skipped: float = MAX_SKIPPED

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, plain(getattr(self, name)))
        for name in _NUMBERS:
            if not isinstance(getattr(self, name), (int, float)):
                raise InputError(f"{name} must be a number, got {getattr(self, name)!r}.")
        lookup(SCHEDULES, self.schedule, "schedule")
        lookup(dict.fromkeys(SOLVERS), self.solver, "solver")
        self.update()  # validates its own fields
        augmented = bool(augment.names(self.augment))
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(
                    f"{name} must be a whole number of at least {least}, got {value!r}."
                )
        if not 0 <= self.max_skipped <= 1:
            raise InputError(f"max_skipped must be a share from 0 to 1, got {self.max_skipped}.")
        if not 0 < self.lr_decay <= 1:
            raise InputError(f"lr_decay must be in (0, 1], got {self.lr_decay}.")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be in [0, 1), got {self.momentum}.")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience must be at least 1 or None, got {self.patience}.")
        if self.views and not augmented:
            raise InputError(
                f"views={self.views} needs an augmentation, got augment={self.augment!r}. "
                "Use augment='light', or views=0."
            )
        if self.solver == "lbfgs" and augmented and not self.views:
            raise InputError(
                f"solver='lbfgs' needs features that are kept, augment={self.augment!r} makes new "
                "ones each epoch. Use augment='none', or add views=4."
            )

    @classmethod
    def of(cls, changes: Mapping[str, Any], beside: Iterable[str] | None = None) -> Options:
        """Return the defaults with `changes`; an unknown name is answered with the nearest.

        `beside` names what may be given beside options, and so may have been meant.
        """
        known = dict.fromkeys([*cls.__dataclass_fields__, *(beside or ())])
        for name in changes:
            if name in ("size", "fit"):
                raise InputError(f"'{name}' is said when the network is loaded: load({name}=…).")
            lookup(known, name, "option")
        return cls(**changes)

    def update(self) -> Update:
        """Return the part of the options that the engine needs."""
        return Update(
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            label_smoothing=self.label_smoothing,
            freeze_bn=self.freeze_bn,
            seed=self.seed,
        )

    def reader(self, watcher: Watcher) -> Reader:
        """Return what reads photos within these limits, and tells the watcher of them."""
        return Reader(self.workers, self.max_pixels, watcher.bar, watcher.line, self.max_skipped)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as bundles and run folders keep it; augmentations by their names."""
        weights = self.class_weights
        return {
            **asdict(replace(self, class_weights=None)),
            "augment": ",".join(augment.names(self.augment)) or "none",
            "class_weights": dict(weights) if isinstance(weights, Mapping) else weights,
        }


def class_weights(
    option: Literal["auto"] | Mapping[str, float] | None, labels: Labels, classes: Sequence[str]
) -> Array | None:
    """Return weights (classes,) float32: N / (classes · count) for "auto", None for none."""
    if option is None:
        return None
    if option == "auto":
        counts = np.bincount(labels, minlength=len(classes))
        return np.asarray(len(labels) / (len(classes) * np.maximum(counts, 1)), np.float32)
    if isinstance(option, str):
        raise InputError(f"class_weights must be None, 'auto' or a mapping, got {option!r}.")
    if set(option) != set(classes):
        raise InputError(
            f"class_weights must name every class once: {sorted(classes)}, got {sorted(option)}."
        )
    if not all(0 < weight < math.inf for weight in option.values()):
        raise InputError(f"class_weights must be positive numbers, got {dict(option)}.")
    return np.asarray([option[name] for name in classes], np.float32)
