"""The engine protocol over the Julia package PyFluxTransfer."""

from __future__ import annotations

import contextlib
import json
import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pyflux_transfer.engines.base import (
    Labels,
    Plan,
    Update,
    check_cut,
    check_features,
    check_images,
    check_labels,
    check_rates,
    check_slice,
    tail_stages,
)
from pyflux_transfer.engines.flux.handle import Handle
from pyflux_transfer.engines.flux.julia import call
from pyflux_transfer.engines.process import rebuilt
from pyflux_transfer.errors import EngineError, InputError, WeightsError
from pyflux_transfer.installation import environment
from pyflux_transfer.networks.catalog import Architecture
from pyflux_transfer.networks.own import PREFIX, from_plan
from pyflux_transfer.networks.shapes import UnitShapes, check_sides
from pyflux_transfer.networks.start import start as random_start
from pyflux_transfer.networks.tensors import Array, Shape, State, check_state
from pyflux_transfer.networks.tree import Node
from pyflux_transfer.networks.units import Layer, Unit, tensors

# How long a download of Metalhead's weights may take, in seconds.
DOWNLOAD_S = 900

# optimizer → what it remembers of each parameter, by PyTorch's names
_SLOTS = {
    "adamw": ("exp_avg", "exp_avg_sq"),
    "adam": ("exp_avg", "exp_avg_sq"),
    "sgd": ("momentum_buffer",),
}

# Networks in Julia whose Python side is gone. The garbage collector may find that out on any
# thread, so they are only noted here and released by the next call that builds one.
_gone: list[int] = []


def readiness() -> str | None:
    """Return None when the engine can start, else what is missing and the remedy."""
    return environment.readiness()


def artifact(architecture: Architecture) -> State:
    """Return the weights of Metalhead's artifact by torchvision's names.

    Raises WeightsError where the download fails or what is on this machine is broken.
    """
    try:
        number = call("create_pretrained", describe(Plan(architecture)), DOWNLOAD_S)
    except EngineError as error:
        raise WeightsError(
            f"Metalhead's weights for '{architecture.name}' could not be downloaded: {error} Check "
            "the network, or give weights= a file."
        ) from error
    state = _fetch("store_state", number, tensors(architecture.units))
    _gone.append(number)
    return state


def own(name: str, side: int) -> tuple[Architecture, State]:
    """Return the row of a network of one's own and its weights, as its constructor leaves them.

    It is run on an image of `side` × `side`. Raises InputError for a constructor that is not known
    or not allowed, and for layers that cannot be a network's; EngineError for what it raises.
    """
    _release()
    number = call("create_own", name.removeprefix(PREFIX), side)
    _gone.append(number)
    row = from_plan(call("own_plan", number))
    return row, _fetch("store_state", number, tensors(row.units))


def build(plan: Plan) -> FluxNetwork:
    """Build a network on the plan's device."""
    return FluxNetwork(plan)


class FluxNetwork:
    """A frozen trunk and a trainable tail in Julia; see `engines.base.Network`.

    BLAS has other kernels for other counts of columns: an image's numbers among others differ from
    those it has alone by up to 1e-5 of the largest.
    """

    engine = "flux"
    precision = "fp32"
    concurrency = 1

    def __init__(self, plan: Plan) -> None:
        if plan.precision == "bf16":
            raise InputError(
                "The flux engine computes in float32. Use precision='auto' or 'fp32', or "
                "engine='torch'."
            )
        self.units: tuple[Unit, ...] = plan.units
        self.cut = 0
        self._plan = plan
        self._update = Update()
        _release()
        self._number: int = call("create", describe(plan), _device(plan))
        weakref.finalize(self, _gone.append, self._number)
        self.device: str = call("name_of_device", self._number)
        if plan.seed is not None:
            self.load_state(random_start(self.units, plan.seed))

    @property
    def julia(self) -> Handle:
        """The Flux chain, for code of one's own."""
        return Handle(self._number, self)

    @property
    def arithmetic(self) -> str:
        """What decides the last bits: Julia, its packages and BLAS kernels, the processor."""
        rows = [row.replace("\t", " ") for row in call("report")]
        return "; ".join([*rows, self.device, environment.processor()])

    def trace(self, shape: Shape) -> list[UnitShapes]:
        """Return each unit's shapes for an input of this shape; runs one image of zeros."""
        table = call("trace_network", self._number, (1, *shape[1:]))
        outputs = [(shape[0], *map(int, row[2 : row[0] + 1])) for row in table]
        inputs = [tuple(shape), *outputs[:-1]]
        return [UnitShapes(*pair) for pair in zip(inputs, outputs, strict=True)]

    def cut_at(self, cut: int) -> None:
        """Move the boundary to before unit `cut`; copies no weight, drops the optimizer's state."""
        check_cut(cut, self.units)
        call("cut_network", self._number, cut)
        self.cut = cut

    def prepare(self, update: Update) -> None:
        """Set how `step` updates the tail, with fresh optimizer state and a step count of 0."""
        first, second = update.betas
        call(
            "prepare_network",
            self._number,
            optimizer=update.optimizer,
            weight_decay=float(update.weight_decay),
            momentum=float(update.momentum),
            beta1=float(first),
            beta2=float(second),
            eps=float(update.eps),
            label_smoothing=float(update.label_smoothing),
            freeze_bn=update.freeze_bn,
            seed=update.seed,
        )
        self._update = update

    def embed(self, images: Array) -> Array:
        """Run the trunk in evaluation mode; with a cut of 0 the images are the features."""
        check_images(images)
        check_sides(self.units[0], images.shape)
        return images if self.cut == 0 else self._call("embed_batch", images)

    def logits(self, x: Array) -> Array:
        """Run the tail in evaluation mode on what `embed` returned."""
        check_features(x)
        check_sides(self.units[self.cut], x.shape)
        return self._call("logits_batch", x)

    def apply(self, x: Array, start: int, stop: int) -> Array:
        """Run units[start:stop] in evaluation mode."""
        check_features(x)
        check_slice(start, stop, self.units)
        if start == stop:
            return x
        check_sides(self.units[start], x.shape)
        return self._call("apply_units", x, start, stop)

    def step(
        self, x: Array, y: Labels, rates: Mapping[str, float], weights: Array | None = None
    ) -> float:
        """Update the tail in place; return the mean loss before it.

        Where the loss or a running statistic would not be finite, nothing changes, and the loss
        that is returned is not finite.
        """
        check_features(x)
        check_sides(self.units[self.cut], x.shape)
        check_labels(y, len(x), self._plan.classes)
        stages = tail_stages(self.units, self.cut)
        check_rates(rates, stages)
        if weights is not None and (
            weights.dtype != np.float32 or weights.shape != (self._plan.classes,)
        ):
            raise InputError(
                f"Class weights must be float32 of shape ({self._plan.classes},), "
                f"got {weights.dtype} {weights.shape}."
            )
        each = tuple(float(rates[stage]) for stage in stages)
        return float(call("step_batch", self._number, x.T, y, stages, each, weights))

    def state(self, start: int = 0) -> State:
        """Return copies of the tensors of units[start:], by torchvision's names."""
        return _fetch("store_state", self._number, tensors(self.units[start:]))

    def load_state(self, state: State) -> None:
        """Replace all tensors; names, counts and shapes are compared before the first write."""
        check_state(state, self.units)
        arrays = [np.ascontiguousarray(array, np.float32).T for array in state.values()]
        call("load_state", self._number, list(state), arrays)

    def optimizer_state(self) -> State:
        """Return copies of what the optimizer remembers, and `step`, the count of steps done."""
        done = np.asarray(call("steps_done", self._number), np.float32)
        return {"step": done, **_fetch("store_memory", self._number, self._memory())}

    def load_optimizer_state(self, state: State) -> None:
        """Replace it; raise InputError unless it comes from the same optimizer and cut."""
        wanted = self._memory()
        different = sorted({"step", *wanted} ^ set(state))
        different += [n for n in wanted if n in state and state[n].shape != wanted[n]]
        if different:
            raise InputError(
                "This optimizer state belongs to another optimizer, cut or network: "
                f"'{different[0]}' does not fit. Use the one saved with these settings."
            )
        arrays = [np.ascontiguousarray(state[name], np.float32).T for name in wanted]
        call("load_memory", self._number, int(state["step"]), list(wanted), arrays)

    def __reduce__(self) -> tuple[object, ...]:
        """Return what rebuilds the network elsewhere."""
        plan = replace(self._plan, seed=None)
        return rebuilt, (__name__, plan, self.state(), self.cut)

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked."""
        call("wait_for", self._number)

    def logit_gradient(self, x: Array, y: Labels, start: int) -> Array:
        """Return the gradient of each example's logit `y` with respect to x, shaped as x."""
        check_features(x)
        check_labels(y, len(x), self._plan.classes)
        check_cut(start, self.units)
        result: Array = call("gradient_batch", self._number, x.T, y, start)
        return result

    def _call(self, name: str, x: Array, *rest: int) -> Array:
        # (N, C, H, W) row by row is (W, H, C, N) column by column: the same bytes, not copied.
        result: Array = call(name, self._number, x.T, *rest)
        return result

    def _memory(self) -> dict[str, Shape]:
        trained = {
            name: shape
            for name, shape in tensors(self.units[self.cut :]).items()
            if ".running_" not in name
        }
        return {f"{s}/{n}": shape for s in _SLOTS[self._update.optimizer]
                for n, shape in trained.items()}  # fmt: skip


def describe(plan: Plan) -> str:
    """Return the plan as text, all that Julia is told about the network.

    It is TOML; that of a network of one's own is JSON, which Python reads, too.
    """
    if plan.architecture.own:
        return json.dumps({
            "constructor": "", "arguments": [], "keywords": {}, "own": plan.architecture.own,
            "all": [_unit(unit) for unit in plan.architecture.units],
            "units": [_unit(unit) for unit in plan.units],
        })  # fmt: skip
    constructor, arguments, keywords = plan.architecture.metalhead or ("", (), {})
    lines = [
        f"constructor = {json.dumps(constructor)}",
        f"arguments = {json.dumps(list(arguments))}",
        f"keywords = {_table(keywords)}",
    ]
    for unit in plan.units:
        lines += [
            "[[units]]",
            f"name = {json.dumps(unit.name)}",
            f"kind = {json.dumps(unit.kind)}",
            f"stage = {json.dumps(unit.stage)}",
            f"options = {_table(unit.options)}",
        ]
        if unit.body is None:
            lines.append(f"layers = {_value([_layer(layer) for layer in unit.layers])}")
        else:  # the tree holds its layers
            lines.append(f"body = {_value(_node(unit.body))}")
    return "\n".join(lines) + "\n"


def _unit(unit: Unit) -> dict[str, Any]:
    """Return a unit without a tree as plain data."""
    return {
        "name": unit.name, "kind": unit.kind, "stage": unit.stage, "options": unit.options,
        "layers": [_layer(layer) for layer in unit.layers],
    }  # fmt: skip


def _layer(layer: Layer) -> dict[str, Any]:
    row = {"name": layer.name, "op": layer.op, "shape": list(layer.shape), "bias": layer.bias}
    if layer.joint != ".":
        row["joint"] = layer.joint
    if layer.momentum != 0.1:
        row["momentum"] = layer.momentum
    return row


def _node(node: Node) -> dict[str, Any]:
    """Return a tree as nested tables; what a node has not is left out."""
    row: dict[str, Any] = {"op": node.op}
    if node.options:
        row["options"] = node.options
    if node.layer is not None:
        row["layer"] = _layer(node.layer)
    if node.nodes:
        row["nodes"] = [_node(inner) for inner in node.nodes]
    return row


def _table(row: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key} = {_value(value)}" for key, value in row.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _table(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    # JSON's strings, numbers and booleans are TOML's too.
    return json.dumps(value)


def _device(plan: Plan) -> str:
    if plan.device == "cpu":
        return "cpu"
    found = call("load_gpu")
    if plan.device == "cuda" and not found:
        raise EngineError(
            "device='cuda' needs an NVIDIA GPU and the Julia packages CUDA and cuDNN. "
            "Run: pyflux-transfer setup --gpu, or use device='cpu'."
        )
    return "cuda" if found else "cpu"


def _release() -> None:
    with contextlib.suppress(IndexError):  # another thread may take the last one
        while _gone:
            call("release", _gone.pop())


def _fetch(name: str, number: int, shapes: Mapping[str, Shape]) -> State:
    """Let Julia fill new arrays of these shapes."""
    state = {key: np.empty(shape, np.float32) for key, shape in shapes.items()}
    call(name, number, list(state), [array.T for array in state.values()])
    return state
