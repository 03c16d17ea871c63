"""The engine protocol in NumPy: small, true, and written apart from the other engines.

It runs networks of 1 × 1 convolutions (with BatchNorm), mean pooling, flattening, dropout and
dense layers, trains them by backpropagation with the three optimizers, and like a real engine can
be named in ENGINES. `TINY` is an architecture of that kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    tail_stages,
)
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.blocks import avgpool, conv, dense, dropout, flatten
from pyflux_transfer.networks.catalog import Architecture
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.shapes import UnitShapes
from pyflux_transfer.networks.start import start as random_start
from pyflux_transfer.networks.tensors import Array, Shape, State, check_state
from pyflux_transfer.networks.units import Unit, tensors
from pyflux_transfer.networks.weights.table import Weights

Back = Callable[[Array], Array]


def _tiny() -> tuple[Unit, ...]:
    return (
        conv("conv1", "stem", 3, 8, 1, norm="bn1"),
        conv("conv2", "stage1", 8, 12, 1, norm="bn2", activation="relu6"),
        conv("conv3", "stage2", 12, 16, 1, bias=True),
        avgpool(1),
        flatten(),
        dropout("classifier.0", 0.2),
        dense("classifier.1", 16, 1000),
    )


TINY = Architecture(
    "tiny",
    _tiny,
    sum(unit.parameters for unit in _tiny()),
    None,
    (Weights("imagenet1k_v1", preprocessing=Preprocessing(resize=10, crop=8), artifact=True),),
)


def readiness() -> str | None:
    return None


def artifact(architecture: Architecture) -> State:
    """Weights that stand for published ones: the random start of a fixed seed."""
    assert architecture.name == "tiny", architecture
    return random_start(TINY.units, 1234)


def build(plan: Plan) -> FakeNetwork:
    return FakeNetwork(plan)


class FakeNetwork:
    engine = "fake"
    device = "cpu"
    precision = "fp32"
    arithmetic = "numpy"
    concurrency = 1

    def __init__(self, plan: Plan) -> None:
        self.units = plan.units
        self.cut = 0
        self.tensors = random_start(self.units, plan.seed or 0)
        self._classes = plan.classes
        self.prepare(Update())

    def trace(self, shape: Shape) -> list[UnitShapes]:
        x = np.zeros(shape, np.float32)
        shapes = []
        for index in range(len(self.units)):
            y = self._run(x, index, index + 1)
            shapes.append(UnitShapes(x.shape, y.shape))
            x = y
        return shapes

    def cut_at(self, cut: int) -> None:
        check_cut(cut, self.units)
        self.cut = cut
        self.prepare(self._update)

    def prepare(self, update: Update) -> None:
        self._update = update
        self._count = 0
        slots = ("momentum_buffer",) if update.optimizer == "sgd" else ("exp_avg", "exp_avg_sq")
        self._slots = {
            f"{slot}/{name}": np.zeros(shape, np.float32)
            for slot in slots
            for name, shape in tensors(self.units[self.cut :]).items()
            if ".running_" not in name
        }

    def embed(self, images: Array) -> Array:
        check_images(images)
        return self._run(images, 0, self.cut)

    def logits(self, x: Array) -> Array:
        check_features(x)
        return self._run(x, self.cut, len(self.units))

    def apply(self, x: Array, start: int, stop: int) -> Array:
        check_features(x)
        if not 0 <= start <= stop <= len(self.units):
            raise InputError(f"No such slice: {start}:{stop}.")
        return self._run(x, start, stop)

    @np.errstate(over="ignore", invalid="ignore")  # a loss may run away; the caller is told
    def step(
        self, x: Array, y: Labels, rates: Mapping[str, float], weights: Array | None = None
    ) -> float:
        check_features(x)
        check_labels(y, len(x), self._classes)
        check_rates(rates, tail_stages(self.units, self.cut))
        if weights is not None and weights.shape != (self._classes,):
            raise InputError(f"Class weights must have shape ({self._classes},).")
        masks = np.random.default_rng([self._update.seed, self._count])
        gradients: State = {}
        backs = []
        for unit in self.units[self.cut :]:
            x, back = self._unit(unit, x, masks, gradients)
            backs.append(back)
        loss, slope = cross_entropy(x, y, weights, self._update.label_smoothing)
        if np.isfinite(loss):
            for back in reversed(backs):
                slope = back(slope)
            self._count += 1
            for unit in self.units[self.cut :]:
                for name in set(unit.tensors) & set(gradients):
                    self._change(name, gradients[name], rates[unit.stage])
        return float(loss)

    def logit_gradient(self, x: Array, y: Labels, start: int) -> Array:
        check_features(x)
        check_labels(y, len(x), self._classes)
        check_cut(start, self.units)
        backs = []
        for unit in self.units[start:]:
            x, back = self._unit(unit, x, None, {})
            backs.append(back)
        slope = np.zeros_like(x)
        slope[np.arange(len(y)), y] = 1
        for back in reversed(backs):
            slope = back(slope)
        return np.ascontiguousarray(slope, np.float32)

    def state(self, start: int = 0) -> State:
        return {name: self.tensors[name].copy() for name in tensors(self.units[start:])}

    def load_state(self, state: State) -> None:
        check_state(state, self.units)
        for name in self.tensors:
            self.tensors[name][...] = state[name]

    def optimizer_state(self) -> State:
        copies = {name: value.copy() for name, value in self._slots.items()}
        return {"step": np.asarray(self._count, np.float32), **copies}

    def load_optimizer_state(self, state: State) -> None:
        if set(state) != {"step", *self._slots}:
            raise InputError("This optimizer state belongs to another optimizer or cut.")
        self._count = int(state["step"])
        for name in self._slots:
            self._slots[name][...] = state[name]

    def synchronize(self) -> None:
        pass

    def _run(self, x: Array, start: int, stop: int) -> Array:
        # One by one: BLAS has other kernels for other counts of rows.
        return np.concatenate([self._image(x[i : i + 1], start, stop) for i in range(len(x))])

    def _image(self, x: Array, start: int, stop: int) -> Array:
        for unit in self.units[start:stop]:
            x, _ = self._unit(unit, x, None, {})
        return x

    def _unit(
        self, unit: Unit, x: Array, masks: np.random.Generator | None, gradients: State
    ) -> tuple[Array, Back]:
        """Run one unit; return its output and the function from its slope to the input's."""
        if "in" in unit.options and x.shape[1] != unit.options["in"]:
            raise InputError(f"Unit '{unit.name}' takes {unit.options['in']} channels.")
        if unit.kind == "flatten":
            return x.reshape(len(x), -1), lambda dy: dy.reshape(x.shape)
        if unit.kind == "avgpool":
            size = x.shape[2] * x.shape[3]
            y = x.mean((2, 3), keepdims=True, dtype=np.float32)
            return y, lambda dy: np.broadcast_to(dy / np.float32(size), x.shape)
        if unit.kind == "dropout":
            return _dropped(x, float(unit.options["p"]), masks)
        layers = [(unit.layers[0], _linear)]
        layers += [(layer, self._normalised) for layer in unit.layers[1:]]
        backs = []
        for layer, function in layers:
            here = {leaf.rsplit(".", 1)[1]: self.tensors[leaf] for leaf in layer.tensors}
            x, back = function(here, x, masks is not None, _into(gradients, layer.name))
            backs.append(back)
        x, back = _ACTIVATIONS[str(unit.options["activation"])](x)
        backs.append(back)

        def backward(dy: Array) -> Array:
            for back in reversed(backs):
                dy = back(dy)
            return dy

        return x, backward

    def _normalised(
        self, here: State, x: Array, training: bool, keep: Callable[[str, Array], None]
    ) -> tuple[Array, Back]:
        learning = training and not self._update.freeze_bn
        axes, shape = (0, 2, 3), (1, -1, 1, 1)
        mean, var = here["running_mean"], here["running_var"]
        if learning:
            mean, var = x.mean(axes), x.var(axes)
            count = x.size // x.shape[1]
            here["running_mean"] += np.float32(0.1) * (mean - here["running_mean"])
            unbiased = var * np.float32(count / (count - 1))
            here["running_var"] += np.float32(0.1) * (unbiased - here["running_var"])
        scale = 1 / np.sqrt(var + np.float32(1e-5))
        z = (x - mean.reshape(shape)) * scale.reshape(shape)

        def back(dy: Array) -> Array:
            keep("weight", (dy * z).sum(axes))
            keep("bias", dy.sum(axes))
            dz = dy * here["weight"].reshape(shape)
            if learning:
                across = (dz * z).mean(axes, keepdims=True)
                dz = dz - dz.mean(axes, keepdims=True) - z * across
            return np.asarray(dz * scale.reshape(shape), np.float32)

        return z * here["weight"].reshape(shape) + here["bias"].reshape(shape), back

    def _change(self, name: str, gradient: Array, rate: float) -> None:
        update, p = self._update, self.tensors[name]
        if update.optimizer == "adamw":
            p *= np.float32(1 - rate * update.weight_decay)
        else:
            gradient = gradient + np.float32(update.weight_decay) * p
        if update.optimizer == "sgd":
            velocity = self._slots[f"momentum_buffer/{name}"]
            velocity[...] = np.float32(update.momentum) * velocity + gradient
            p -= np.float32(rate) * velocity
            return
        first, second = (np.float32(beta) for beta in update.betas)
        m, v = self._slots[f"exp_avg/{name}"], self._slots[f"exp_avg_sq/{name}"]
        m[...] = first * m + (1 - first) * gradient
        v[...] = second * v + (1 - second) * gradient**2
        m_hat = m / np.float32(1 - update.betas[0] ** self._count)
        v_hat = v / np.float32(1 - update.betas[1] ** self._count)
        p -= np.float32(rate) * m_hat / (np.sqrt(v_hat) + np.float32(update.eps))


def _into(gradients: State, layer: str) -> Callable[[str, Array], None]:
    def keep(leaf: str, value: Array) -> None:
        gradients[f"{layer}.{leaf}"] = value

    return keep


def _linear(
    here: State, x: Array, _: bool, keep: Callable[[str, Array], None]
) -> tuple[Array, Back]:
    """A dense layer, or a 1 × 1 convolution: both multiply the channels with a matrix."""
    weight = here["weight"]
    matrix = weight.reshape(weight.shape[:2])
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    y = rows @ matrix.T
    if "bias" in here:
        y = y + here["bias"]
    outer = (len(x), *x.shape[2:])

    def back(dy: Array) -> Array:
        slope = np.moveaxis(dy, 1, -1).reshape(-1, len(matrix))
        keep("weight", (slope.T @ rows).reshape(weight.shape))
        if "bias" in here:
            keep("bias", slope.sum(0))
        return np.moveaxis((slope @ matrix).reshape(*outer, -1), -1, 1)

    return np.ascontiguousarray(np.moveaxis(y.reshape(*outer, -1), -1, 1)), back


def _dropped(x: Array, p: float, masks: np.random.Generator | None) -> tuple[Array, Back]:
    if masks is None or p == 0:
        return x, lambda dy: dy
    kept = (masks.random(x.shape, dtype=np.float32) >= p) / np.float32(1 - p)
    return x * kept, lambda dy: dy * kept


def _tanh(x: Array) -> tuple[Array, Back]:
    y = np.tanh(x)
    return y, lambda dy: dy * (1 - y**2)


_ACTIVATIONS: dict[str, Callable[[Array], tuple[Array, Back]]] = {
    "none": lambda x: (x, lambda dy: dy),
    "relu": lambda x: (np.maximum(x, 0), lambda dy: dy * (x > 0)),
    "relu6": lambda x: (np.clip(x, 0, 6), lambda dy: dy * ((x > 0) & (x < 6))),
    "tanh": _tanh,
}


def cross_entropy(
    logits: Array, y: Labels, weights: Array | None, smoothing: float
) -> tuple[float, Array]:
    """PyTorch's CrossEntropyLoss and its slope: the formula of its documentation.

    loss = Σ w[y]·((1 − ε)·(−log p[y])) / Σ w[y]  +  ε/C · Σ Σ_c w[c]·(−log p[c]) / Σ w[y]
    """
    count, classes = logits.shape
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    w = np.ones(classes) if weights is None else weights.astype(np.float64)
    target = smoothing / classes * np.tile(w, (count, 1))
    target[np.arange(count), y] += (1 - smoothing) * w[y]
    total = w[y].sum()
    slope = (np.exp(logs) * target.sum(1, keepdims=True) - target) / total
    return float(-(target * logs).sum() / total), slope.astype(np.float32)
