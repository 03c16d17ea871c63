"""Some units of a network as a session of ONNX Runtime: one image in, one out; vectors together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import onnxruntime

from pyflux_transfer.engines.onnx.layers import Writer
from pyflux_transfer.engines.onnx.units import write_units
from pyflux_transfer.networks.shapes import trace
from pyflux_transfer.networks.tensors import Array, Shape
from pyflux_transfer.networks.units import Unit

GIVEN, ANSWER = "given", "answer"
_ROWS = 8  # vectors that share a pass over large weights
# From one image to the next where they follow at once: to wake a thread takes a tenth of a small
# network's time.
_SPIN_US = 500


class Session:
    """Units for images, or what comes of them, of one shape; several threads may call it.

    `threads` share the layers of one image. While they do, and shortly after, they wait for one
    another without sleep, which is half the time of a small network.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        tensors: Mapping[str, Array],
        shape: Shape,
        threads: int,
        *,
        once: bool = False,
    ) -> None:
        """Build it for one example of a shape (1, …). Raises InputError where it does not fit.

        What is called `once` is left as it is written: to optimise it takes longer than it spares,
        0.1 s of ResNet-50's.
        """
        self.output = trace(units, shape)[-1].output
        to = Writer(tensors, folds=False)  # ONNX Runtime folds, without a copy of ours
        to.rename(write_units(to, units, GIVEN, shape), ANSWER)
        self._shape = shape
        count = "N" if len(shape) == 2 else 1
        model, outside = to.outside(
            (GIVEN, np.float32, (count, *shape[1:])),
            (ANSWER, np.float32, (count, *self.output[1:])),
        )
        # What the session reads must live as long as it does.
        self._values = [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in outside.values()]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
        if once:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        options.add_external_initializers(list(outside), self._values)
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.bytes = sum(value.nbytes for value in outside.values())

    @cached_property
    def rows(self) -> int:
        """How many examples may pass together: vectors, if a trial on noise shows the same bits.

        A large Dense layer reads its weights once for all of them.
        """
        if len(self._shape) != 2:
            return 1
        x = np.random.default_rng(0).standard_normal((_ROWS, self._shape[1]), dtype=np.float32)
        alone = np.concatenate([self(x[i : i + 1]) for i in range(_ROWS)])
        return _ROWS if np.array_equal(self(x), alone) else 1

    def __call__(self, x: Array) -> Array:
        """Return what the units make of one example (1, …), or of `rows` at most."""
        answers: list[Array] = self._session.run([ANSWER], {GIVEN: x})
        return answers[0]
