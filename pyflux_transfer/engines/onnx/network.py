"""The engine protocol over ONNX Runtime: evaluation alone, in float32 on the processor."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import NoReturn

import numpy as np
import onnxruntime

from pyflux_transfer.engines.base import (
    Labels,
    Plan,
    Update,
    check_cut,
    check_features,
    check_images,
    check_slice,
)
from pyflux_transfer.engines.onnx.session import Session
from pyflux_transfer.engines.process import claim, rebuilt
from pyflux_transfer.errors import EngineError, InputError
from pyflux_transfer.installation.environment import cores, processor
from pyflux_transfer.networks.catalog import Architecture
from pyflux_transfer.networks.own import refuse
from pyflux_transfer.networks.shapes import UnitShapes, check_fit, trace
from pyflux_transfer.networks.start import start as random_start
from pyflux_transfer.networks.tensors import Array, Shape, State, check_state
from pyflux_transfer.networks.units import Unit, tensors

# Sessions are forgotten, the longest unused first, where together they hold more weights than so
# many whole networks: each may have laid out its own anew.
_MOST_NETWORKS = 2.5


def readiness() -> str | None:
    """Return None: this module imports only where ONNX Runtime does."""
    return None


def artifact(architecture: Architecture) -> None:
    """Return None: ONNX Runtime has no source of weights of its own."""


def own(name: str, side: int) -> tuple[Architecture, State]:  # noqa: ARG001
    """Refuse a network of one's own: its layers are Julia's."""
    refuse(name)


def build(plan: Plan) -> OnnxNetwork:
    """Build a network that evaluates."""
    if plan.architecture.own:
        refuse(plan.architecture.name)
    if plan.device == "cuda":
        raise EngineError(
            "The onnx engine computes on the processor. Use device='auto' or device='cpu', or "
            "engine='torch'."
        )
    if plan.precision == "bf16":
        raise InputError(
            "The onnx engine computes in float32. Use precision='auto' or precision='fp32', or "
            "engine='torch'."
        )
    return OnnxNetwork(plan)


class OnnxNetwork:
    """A network over ONNX Runtime; see `engines.base.Network`.

    Images pass one at a time, so that none depends on its neighbours. What lies on one side of the
    cut is fused across units, so that another cut changes the last bits: by up to 2e-6 of the
    largest number.
    """

    engine = "onnx"
    device = "cpu"
    precision = "fp32"
    concurrency = 2  # with two under way, no processor waits for the end of one

    def __init__(self, plan: Plan) -> None:
        self.units: tuple[Unit, ...] = plan.units
        self.cut = 0
        self._plan = plan
        self._state: State = {}
        self._sessions: OrderedDict[tuple[int, int, Shape, int], Session] = OrderedDict()
        self._lock = Lock()
        self._busy = 0

    @property
    def arithmetic(self) -> str:
        """What decides the last bits: ONNX Runtime and the processor."""
        return f"onnxruntime {onnxruntime.__version__}; {processor()}"

    @property
    def tensors(self) -> State:
        """The weights themselves, by torchvision's names; a random start is drawn when needed."""
        if not self._state:
            if self._plan.seed is None:
                raise EngineError("The network has no weights yet. Call load_state first.")
            self._state = random_start(self.units, self._plan.seed)
        return self._state

    def trace(self, shape: Shape) -> list[UnitShapes]:
        """Return each unit's shapes for an input of this shape; nothing is computed."""
        return trace(self.units, shape)

    def cut_at(self, cut: int) -> None:
        """Move the boundary to before unit `cut`; copies no weight."""
        check_cut(cut, self.units)
        self.cut = cut

    def embed(self, images: Array) -> Array:
        """Run the trunk; with a cut of 0 the images are the features."""
        check_images(images)
        return self._evaluate(images, 0, self.cut)

    def logits(self, x: Array) -> Array:
        """Run the tail on what `embed` returned."""
        check_features(x)
        return self._evaluate(x, self.cut, len(self.units))

    def apply(self, x: Array, start: int, stop: int) -> Array:
        """Run units[start:stop]; without any the result is x itself."""
        check_features(x)
        check_slice(start, stop, self.units)
        return self._evaluate(x, start, stop)

    def state(self, start: int = 0) -> State:
        """Return copies of the tensors of units[start:], by torchvision's names."""
        return {name: self.tensors[name].copy() for name in tensors(self.units[start:])}

    def load_state(self, state: State) -> None:
        """Replace all tensors; names, counts and shapes are compared before the first write.

        Arrays that nobody can write are shared, others copied.
        """
        check_state(state, self.units)
        self._state = {name: _kept(state[name]) for name in tensors(self.units)}
        with self._lock:
            self._sessions.clear()

    def prepare(self, update: Update) -> NoReturn:
        """Refuse: this engine does not train."""
        del update
        _refuse("train")

    def step(
        self, x: Array, y: Labels, rates: Mapping[str, float], weights: Array | None = None
    ) -> NoReturn:
        """Refuse: this engine does not train."""
        del x, y, rates, weights
        _refuse("train")

    def logit_gradient(self, x: Array, y: Labels, start: int) -> NoReturn:
        """Refuse: this engine has no gradients."""
        del x, y, start
        _refuse("compute gradients, which heat maps of this network need")

    def optimizer_state(self) -> NoReturn:
        """Refuse: this engine does not train."""
        _refuse("train")

    def load_optimizer_state(self, state: State) -> NoReturn:
        """Refuse: this engine does not train."""
        del state
        _refuse("train")

    def synchronize(self) -> None:
        """Return at once: every call waits for its result."""

    def __reduce__(self) -> tuple[object, ...]:
        """Return what rebuilds the network elsewhere."""
        plan = replace(self._plan, seed=None)
        return rebuilt, (__name__, plan, self.state(), self.cut)

    def _evaluate(self, x: Array, start: int, stop: int) -> Array:
        if start == stop:
            return x
        claim(__name__)
        check_fit(self.units[start], x.shape)
        threads = _threads()
        with self._under_way() as others:
            # Vectors pass a head in less time than waking the other threads takes.
            alone = len(x) == 1 and x.ndim > 2 and not others
            session = self._session(start, stop, (1, *x.shape[1:]), threads if alone else 1)
            if len(x) == 1:
                return session(x)
            return _spread(session, x, threads)

    @contextmanager
    def _under_way(self) -> Iterator[int]:
        """Give the count of evaluations that are under way beside this one."""
        with self._lock:
            others, self._busy = self._busy, self._busy + 1
        try:
            yield others
        finally:
            with self._lock:
                self._busy -= 1

    def _session(self, start: int, stop: int, shape: Shape, threads: int) -> Session:
        """Return a session whose layers so many threads share: bits do not depend on their count.

        Where there is one for one thread already, it answers: another would take longer to make.
        """
        with self._lock:
            places = [(start, stop, shape, count) for count in (threads, 1)]
            key = next((place for place in places if place in self._sessions), places[0])
            if key not in self._sessions:
                once = self._plan.photos == 1
                made = Session(self.units[start:stop], self.tensors, shape, threads, once=once)
                self._sessions[key] = made
                self._forget()
            self._sessions.move_to_end(key)
            return self._sessions[key]

    def _forget(self) -> None:
        whole = sum(value.nbytes for value in self.tensors.values())
        while len(self._sessions) > 1 and self._held() > _MOST_NETWORKS * whole:
            self._sessions.popitem(last=False)

    def _held(self) -> int:
        return sum(session.bytes for session in self._sessions.values())


def _spread(session: Session, x: Array, threads: int) -> Array:
    """Return a session's answers for examples, each of which is computed by one thread."""
    found = np.empty((len(x), *session.output[1:]), np.float32)

    def some(start: int) -> None:
        part = slice(start, start + session.rows)
        found[part] = session(x[part])

    run = map if threads == 1 else _pool(threads).map
    for _ in run(some, range(0, len(x), session.rows)):
        pass
    return found


def _kept(value: Array) -> Array:
    """Return what nobody else changes: a copy, or the array where it can be written no more."""
    shared = not value.flags.writeable and value.dtype == np.float32 and value.flags.c_contiguous
    return value if shared else np.array(value, np.float32, order="C")


def _refuse(what: str) -> NoReturn:
    raise EngineError(
        f"The onnx engine evaluates only: it does not {what}. Use engine='torch' or "
        "engine='flux'; where PyTorch is missing: pip install 'pyflux-transfer[torch]'"
    )


def _threads() -> int:
    """Return how many threads compute: what OMP_NUM_THREADS says, as elsewhere, or all."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, int(given)) if given.isdigit() else cores()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "onnx")
