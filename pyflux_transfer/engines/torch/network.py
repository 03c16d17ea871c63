"""The engine protocol over PyTorch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

# Threads that wait for one another spin some microseconds, then sleep. Spinning on takes the
# processor from the decoding threads (a step of training took up to twice as long), sleeping at
# once doubles the time of a single image. Read when PyTorch loads; GCC's OpenMP alone knows the
# count.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer._version import __version__
from pyflux_transfer.engines.base import (
    Labels,
    Plan,
    Update,
    check_cut,
    check_features,
    check_images,
    check_labels,
    check_slice,
    tail_stages,
)
from pyflux_transfer.engines.process import claim, rebuilt
from pyflux_transfer.engines.torch import choice
from pyflux_transfer.engines.torch.allocator import give_back, keep_memory, share_heaps
from pyflux_transfer.engines.torch.convolution import has_bf16
from pyflux_transfer.engines.torch.fast import FastRunner, agrees
from pyflux_transfer.engines.torch.kinds import TrainRunner, block, forward, parameters
from pyflux_transfer.engines.torch.optimizer import Optimizer
from pyflux_transfer.engines.torch.tail import TailRunner
from pyflux_transfer.errors import EngineError, InputError
from pyflux_transfer.installation.environment import processor
from pyflux_transfer.networks.catalog import Architecture
from pyflux_transfer.networks.own import refuse
from pyflux_transfer.networks.shapes import UnitShapes, check_fit, trace
from pyflux_transfer.networks.start import start as random_start
from pyflux_transfer.networks.tensors import Array, Shape, State, check_state
from pyflux_transfer.networks.units import Unit, tensors


def readiness() -> str | None:
    """Return None: this module imports only where PyTorch does."""
    return None


def artifact(architecture: Architecture) -> None:
    """Return None: PyTorch has no source of weights of its own."""


def own(name: str, side: int) -> tuple[Architecture, State]:  # noqa: ARG001
    """Refuse a network of one's own: its layers are Julia's."""
    refuse(name)


def build(plan: Plan) -> TorchNetwork:
    """Build a network on the plan's device."""
    share_heaps()  # before there are threads
    if plan.architecture.own:
        refuse(plan.architecture.name)
    return TorchNetwork(plan)


# What keeps the libraries from using all of a processor.
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR",
           "MKL_ENABLE_INSTRUCTIONS")  # fmt: skip

# What trains the tail in each precision.
_TRAINS: dict[str, type[TrainRunner]] = {"fp32": TrainRunner, "bf16": TailRunner}


class TorchNetwork:
    """A frozen trunk and a trainable tail over PyTorch; see `engines.base.Network`."""

    engine = "torch"

    def __init__(self, plan: Plan) -> None:
        self.units: tuple[Unit, ...] = plan.units
        self.cut = 0
        self._plan = plan
        self._blocks = tuple(block(unit) for unit in self.units)
        self._device = _device(plan.device)
        self._weights: dict[str, Tensor] = {}
        self._lent: set[str] = set()  # names of those that others read, too
        self._runner: FastRunner | None = None
        self._update = Update()
        self._optimizer: Optimizer | None = None
        if plan.precision == "bf16" and not has_bf16(self._device):
            raise InputError(
                "precision='bf16' needs a processor with AVX-512, or a GPU that has bfloat16; this "
                "machine has none. Use precision='auto' or 'fp32'."
            )

    @property
    def device(self) -> str:
        """Where it computes, with the name of a graphics card."""
        if self._device.type == "cpu":
            return "cpu"
        return f"{self._device} ({torch.cuda.get_device_name(self._device)})"

    @property
    def precision(self) -> str:
        """Precision it computes in; "auto" is decided at the first use: by speed and agreement."""
        return "bf16" if self._evaluation.dtype == torch.bfloat16 else "fp32"

    @property
    def arithmetic(self) -> str:
        """What decides the last bits: PyTorch, its libraries and limits set for them, processor."""
        if self._device.type != "cpu":
            return f"torch {torch.__version__} {self.device}"
        build = torch.__config__.show().splitlines()
        libraries = [
            line.strip(" -")
            for line in build
            if re.match(r" *- (Intel|oneDNN|BLAS|.*MKL)", line[:40])
        ]
        limits = [f"{name}={os.environ.get(name, '')}" for name in _LIMITS]
        return "; ".join([f"torch {torch.__version__}", *libraries, *limits, processor()])

    @property
    def concurrency(self) -> int:
        """Evaluations that may be under way: with two, no processor waits for the end of one."""
        return 2 if self._device.type == "cpu" else 1

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The weights themselves, by torchvision's names; a random start is drawn when needed."""
        if not self._weights:
            if self._plan.seed is None:
                raise EngineError("The network has no weights yet. Call load_state first.")
            for name, value in random_start(self.units, self._plan.seed).items():
                self._weights[name] = torch.tensor(value).to(self._device)
            self._mark_trainable()
        return self._weights

    def trace(self, shape: Shape) -> list[UnitShapes]:
        """Return each unit's shapes for an input of this shape; nothing is computed."""
        return trace(self.units, shape)

    def cut_at(self, cut: int) -> None:
        """Move the boundary to before unit `cut`; copies no weight, drops the optimizer's state."""
        check_cut(cut, self.units)
        self.cut = cut
        self._optimizer = None
        self._mark_trainable()

    def prepare(self, update: Update) -> None:
        """Set how `step` updates the tail, with fresh optimizer state and a step count of 0."""
        self._update = update
        self._optimizer = None

    def embed(self, images: Array) -> Array:
        """Run the trunk in evaluation mode; with a cut of 0 the images are the features."""
        check_images(images)
        return self._evaluate(images, 0, self.cut)

    def logits(self, x: Array) -> Array:
        """Run the tail in evaluation mode on what `embed` returned."""
        check_features(x)
        return self._evaluate(x, self.cut, len(self.units))

    def apply(self, x: Array, start: int, stop: int) -> Array:
        """Run units[start:stop] in evaluation mode; the result may share memory with x."""
        check_features(x)
        check_slice(start, stop, self.units)
        return self._evaluate(x, start, stop)

    def step(
        self, x: Array, y: Labels, rates: Mapping[str, float], weights: Array | None = None
    ) -> float:
        """Update the tail in place; return the mean loss before it.

        A loss that is not finite is returned as it is, and nothing is updated but the BatchNorm
        statistics of the tail.
        """
        check_features(x)
        check_labels(y, len(x), self._plan.classes)
        if weights is not None:
            _check_weights(weights, self._plan.classes)
        claim(__name__)
        self._own_tail()
        optimizer = self._training
        optimizer.check_rates(rates)
        loss = self._loss(self._tensor(x), y, weights)
        value = loss.item()
        if np.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(rates)
        for name in parameters(self._blocks[self.cut :]):
            self.tensors[name].grad = None
        if self._runner:
            self._runner.forget(self._blocks[self.cut :])
        return float(value)

    def logit_gradient(self, x: Array, y: Labels, start: int) -> Array:
        """Return the gradient of each example's logit `y` with respect to x, shaped as x."""
        check_features(x)
        check_labels(y, len(x), self._plan.classes)
        check_cut(start, self.units)
        claim(__name__)
        given = self._tensor(x).detach().requires_grad_()
        logits = forward(TrainRunner(self.tensors), self._blocks[start:], given)
        chosen = logits.gather(1, torch.from_numpy(y).to(self._device)[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, given)
        return np.ascontiguousarray(gradient.cpu().numpy())

    def state(self, start: int = 0) -> State:
        """Return the tensors of units[start:] as they are now, by torchvision's names.

        The arrays cannot be written. On a CPU they share the network's memory until it changes:
        of what does not train there is no second copy, nor in a network that they are loaded into.
        """
        state: State = {}
        for name in tensors(self.units[start:]):
            value = state[name] = self.tensors[name].numpy(force=True)
            value.flags.writeable = False
            self._lent.add(name)
        return state

    def load_state(self, state: State) -> None:
        """Replace all tensors; names, counts and shapes are compared before the first write.

        Units whose tensors stay the same keep what evaluation has prepared of them.
        """
        check_state(state, self.units)
        old = self._weights
        for one in self._blocks:
            names = one.unit.tensors
            new = {name: _loaded(state[name]).to(self._device) for name in names}
            if all(name in old and torch.equal(old[name], value) for name, value in new.items()):
                continue
            old.update(new)
            self._lent.update(new)  # it may be so, and copying once too often does no harm
            if self._runner:
                self._runner.forget([one])
        self._mark_trainable()

    def optimizer_state(self) -> State:
        """Return copies of what the optimizer remembers, and `step`, the count of steps done."""
        return self._training.state()

    def load_optimizer_state(self, state: State) -> None:
        """Replace it; raise InputError unless it comes from the same optimizer and cut."""
        self._training.load(state)

    def __reduce__(self) -> tuple[object, ...]:
        """Return what rebuilds the network elsewhere."""
        plan = replace(self._plan, seed=None)
        return rebuilt, (__name__, plan, self.state(), self.cut)

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @property
    def _evaluation(self) -> FastRunner:
        if self._runner is None:
            self._runner = self._chosen_runner()
        return self._runner

    def _chosen_runner(self) -> FastRunner:
        half = self._plan.precision
        if half == "auto":
            half = "bf16" if self._bf16_is_best() else "fp32"
        give_back()  # what asking took, and making the network
        return FastRunner(self.tensors, torch.bfloat16 if half == "bf16" else torch.float32)

    def _bf16_is_best(self) -> bool:
        """Tell whether bfloat16 can be had here, pays, and agrees with float32.

        Runners of their own are asked: what they prepare, for small images, goes with them.
        """
        try:
            return (
                has_bf16(self._device)
                and self._bf16_pays()
                and agrees(FastRunner(self.tensors, torch.bfloat16), self._blocks)
            )
        except EngineError:  # a unit that cannot be computed in bfloat16 here
            return False

    def _bf16_pays(self) -> bool:
        """Tell whether bfloat16 is the faster one: by measurement, on a graphics card always."""
        if self._device.type != "cpu":
            return True
        row = self._plan.architecture
        side = row.preprocessing.crop
        kind = f"{row.name} at {side}; pyflux-transfer {__version__}; {self.arithmetic}"
        measure = partial(choice.measured, self._blocks, self.tensors, side)
        return choice.gains(choice.kept(kind, measure))

    @property
    def _training(self) -> Optimizer:
        if self._optimizer is None:
            keep_memory()
            groups = {
                stage: parameters([b for b in self._blocks[self.cut :] if b.unit.stage == stage])
                for stage in tail_stages(self.units, self.cut)
            }
            self._optimizer = Optimizer(self._update, self.tensors, groups)
        return self._optimizer

    def _own_tail(self) -> None:
        """Let nobody see what a step changes: copy what was lent of the tail."""
        for name in self._lent.intersection(tensors(self.units[self.cut :])):
            value = self._weights[name]
            self._weights[name] = value.detach().clone().requires_grad_(value.requires_grad)
            self._lent.discard(name)

    def _mark_trainable(self) -> None:
        tail = set(parameters(self._blocks[self.cut :]))
        for name, value in self._weights.items():
            value.requires_grad_(name in tail)

    def _evaluate(self, x: Array, start: int, stop: int) -> Array:
        if start == stop:
            return x
        claim(__name__)
        check_fit(self.units[start], x.shape)  # the whole: what follows sees parts of the batch
        try:
            result = self._evaluation.run(self._blocks[start:stop], self._tensor(x))
        except EngineError:
            trace(self.units[start:stop], x.shape)  # says so where the image is too small
            raise
        return np.asarray(result.cpu().numpy(), np.float32)

    def _loss(self, x: Tensor, y: Labels, weights: Array | None) -> Tensor:
        # The masks depend on nothing but the seed and the count of steps: a resumed run draws the
        # ones an uninterrupted run would have drawn.
        masks = np.random.default_rng([self._update.seed, self._training.count])
        runner = _TRAINS[self.precision](self.tensors, not self._update.freeze_bn, masks)
        return F.cross_entropy(
            forward(runner, self._blocks[self.cut :], runner.enter(x)).float(),
            torch.from_numpy(y).to(self._device),
            weight=None if weights is None else self._tensor(weights),
            label_smoothing=self._update.label_smoothing,
        )

    def _tensor(self, x: Array) -> Tensor:
        # Shared memory, not a copy; only read-only arrays (memory maps) PyTorch does not take.
        return torch.from_numpy(x if x.flags.writeable else x.copy()).to(self._device)


def _device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise EngineError(
            "device='cuda' needs an NVIDIA GPU and a CUDA build of PyTorch; this one finds none. "
            "Use device='auto' or 'cpu'."
        )
    return torch.device("cuda", torch.cuda.current_device())


def _loaded(value: Array) -> Tensor:
    """Return a copy; of what another network has lent, the same memory."""
    base: object = value.base
    if isinstance(base, Tensor) and not value.flags.writeable:
        return base.detach()
    return torch.tensor(value, dtype=torch.float32)


def _check_weights(weights: Array, classes: int) -> None:
    if weights.dtype != np.float32 or weights.shape != (classes,):
        raise InputError(
            f"Class weights must be float32 of shape ({classes},), "
            f"got {weights.dtype} {weights.shape}."
        )
