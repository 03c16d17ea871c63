"""The engine protocol: what a network can do, and the plan it is built from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.networks.catalog import Architecture
from pyflux_transfer.networks.head import Head, with_head
from pyflux_transfer.networks.shapes import UnitShapes, trace
from pyflux_transfer.networks.tensors import Array, Shape, State
from pyflux_transfer.networks.units import Unit

Labels = NDArray[np.int64]

Precision = Literal["fp32", "bf16", "auto"]
Device = Literal["auto", "cpu", "cuda"]
OPTIMIZERS = ("adamw", "adam", "sgd")


@dataclass(frozen=True)
class Plan:
    """What a network is built from.

    `head=None` keeps the 1000-class classifier. `precision` is that of all images and tokens on
    their way through the network, in prediction and in training; weights, the optimizer, statistics
    of BatchNorm, layers on vectors, logits and loss are float32 always. `seed` makes the random
    start of the weights; None leaves them unset, for a `load_state` that follows at once. `photos`
    is how many will come, where that is known: for one an engine need not prepare much.
    """

    architecture: Architecture
    head: Head | None = None
    seed: int | None = 0
    precision: Precision = "fp32"
    device: Device = "auto"
    photos: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16", "auto"):
            raise InputError(f"precision must be fp32, bf16 or auto, got {self.precision!r}.")
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"device must be auto, cpu or cuda, got {self.device!r}.")

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units in order, the head among them."""
        full = self.architecture.units
        return full if self.head is None else with_head(full, self.head)

    @property
    def classes(self) -> int:
        """Width of the logits."""
        return self.architecture.classes if self.head is None else self.head.classes


@dataclass(frozen=True)
class Update:
    """How a step changes the tail. Both engines mean PyTorch's definitions.

    adamw: Loshchilov & Hutter 2019, `p ← p − rate·decay·p` before the step; adam and sgd add
    `decay·p` to the gradient. The loss is `torch.nn.CrossEntropyLoss` with `label_smoothing` and
    class weights, reduced by the (weighted) mean. `freeze_bn` keeps BatchNorm inside the tail in
    evaluation mode. `seed` and the count of steps done make the dropout masks.
    """

    optimizer: str = "adamw"
    weight_decay: float = 0.01
    momentum: float = 0.9  # sgd
    betas: tuple[float, float] = (0.9, 0.999)  # adam, adamw
    eps: float = 1e-8
    label_smoothing: float = 0.0
    freeze_bn: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        lookup(dict.fromkeys(OPTIMIZERS), self.optimizer, "optimizer")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay must not be negative, got {self.weight_decay}.")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}.")


class Network(Protocol):
    """A frozen trunk and a trainable tail of one network, split at one cut.

    Arrays are C-contiguous NumPy: images (N,3,H,W) float32, labels (N,) int64 from 0, logits
    (N,classes) float32. `check_images`, `check_features` and `check_labels` refuse anything else.
    """

    engine: str  # "torch", "flux", …
    device: str  # "cpu", "cuda:0 (NVIDIA …)"
    precision: str  # what was chosen: "fp32" or "bf16"
    arithmetic: str  # what computes: versions, processor; features of two kinds never mix
    concurrency: int  # how many threads may evaluate at a time; everything else is for one
    units: Sequence[Unit]
    cut: int  # units[:cut] are the trunk

    def trace(self, shape: Shape) -> list[UnitShapes]:
        """Return each unit's shapes for an input of this shape."""

    def cut_at(self, cut: int) -> None:
        """Move the boundary to before unit `cut`; copies no weight, drops the optimizer's state."""

    def prepare(self, update: Update) -> None:
        """Set how `step` updates the tail, with fresh optimizer state and a step count of 0."""

    def embed(self, images: Array) -> Array:
        """Run the trunk in evaluation mode: same input, same output."""

    def logits(self, x: Array) -> Array:
        """Run the tail in evaluation mode on what `embed` returned."""

    def step(
        self, x: Array, y: Labels, rates: Mapping[str, float], weights: Array | None = None
    ) -> float:
        """Update the tail in place; return the mean loss before it.

        `x` is what `embed` returned, `rates` the learning rate of each of the tail's stages,
        `weights` (classes,) float32 weigh the classes.
        """

    def apply(self, x: Array, start: int, stop: int) -> Array:
        """Run units[start:stop] in evaluation mode."""

    def logit_gradient(self, x: Array, y: Labels, start: int) -> Array:
        """Return the gradient of each example's logit `y` with respect to x, shaped as x.

        `x` is what comes to units[start:], which run in evaluation mode; nothing changes. Examples
        do not influence each other.
        """

    def state(self, start: int = 0) -> State:
        """Return the tensors of units[start:] as they are now, by torchvision's names.

        They stay so whatever the network does; arrays that cannot be written share its memory.
        """

    def load_state(self, state: State) -> None:
        """Replace all tensors; names, counts and shapes are compared before the first write."""

    def optimizer_state(self) -> State:
        """Return copies of what the optimizer remembers, and `step`, the count of steps done."""

    def load_optimizer_state(self, state: State) -> None:
        """Replace it; it must come from the same optimizer and cut."""

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked."""


def traced(network: Network, shape: Shape) -> list[UnitShapes]:
    """Return each unit's shapes for an input of this shape; from the units alone where they tell.

    Raises InputError where the images are too small.
    """
    if any(unit.kind == "own" for unit in network.units):
        return network.trace(shape)
    return trace(network.units, shape)


def check_images(images: Any) -> None:
    """Refuse what is not a batch of images (N,3,H,W), N ≥ 1."""
    check_features(images, "images")
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"Images must be shaped (N, 3, H, W), got {images.shape}.")


def check_features(x: Any, name: str = "features") -> None:
    """Refuse what is not a C-contiguous float32 array of finite numbers with a batch axis."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float32:
        kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise InputError(
            f"{name} must be a float32 NumPy array, got {kind}. Use .astype('float32')."
        )
    if not x.flags.c_contiguous:
        raise InputError(f"{name} must be C-contiguous. Use numpy.ascontiguousarray.")
    if x.ndim < 2 or x.shape[0] == 0:
        raise InputError(f"{name} must hold at least one example, got shape {x.shape}.")
    # One pass without a temporary: a NaN or an infinity makes the sum of squares not finite.
    flat = x.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.dot(flat, flat)
    if not np.isfinite(squares) and not np.isfinite(x).all():
        raise InputError(f"{name} holds NaN or infinite values. Check the preprocessing.")


def check_labels(y: Any, count: int, classes: int) -> None:
    """Refuse what is not `count` int64 labels from 0 to classes − 1."""
    if not isinstance(y, np.ndarray) or y.dtype != np.int64 or y.shape != (count,):
        got = f"{y.dtype} {y.shape}" if isinstance(y, np.ndarray) else type(y).__name__
        raise InputError(f"Labels must be int64 of shape ({count},), got {got}.")
    if y.min() < 0 or y.max() >= classes:
        raise InputError(
            f"Labels must be from 0 to {classes - 1}, got {int(y.min())} to {int(y.max())}."
        )


def check_rates(rates: Mapping[str, float], stages: Sequence[str]) -> None:
    """Refuse rates that lack a stage of the tail, or are no finite numbers from 0."""
    if missing := [stage for stage in stages if stage not in rates]:
        raise InputError(
            f"rates must hold a learning rate for each stage of the tail; {missing} lack one."
        )
    for stage in stages:
        if not 0 <= rates[stage] < math.inf:
            raise InputError(
                f"The learning rate of '{stage}' must be a finite number from 0, got "
                f"{rates[stage]}."
            )


def check_cut(cut: int, units: Sequence[Unit]) -> None:
    """Refuse a cut outside the network; at least the last unit must stay in the tail."""
    if not 0 <= cut < len(units):
        raise InputError(f"The cut must be from 0 to {len(units) - 1}, got {cut}.")


def check_slice(start: int, stop: int, units: Sequence[Unit]) -> None:
    """Refuse a slice of units that does not lie within the network; an empty one may."""
    if not 0 <= start <= stop <= len(units):
        raise InputError(f"A slice of units must lie in 0 to {len(units)}, got {start}:{stop}.")


def tail_stages(units: Sequence[Unit], cut: int) -> tuple[str, ...]:
    """Stage names of the tail, in order; a cut inside a stage leaves its rest in the tail."""
    return tuple(dict.fromkeys(unit.stage for unit in units[cut:]))
