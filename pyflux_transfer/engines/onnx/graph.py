"""An ONNX graph that grows: nodes, constants, and names that tell where they belong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.helper import np_dtype_to_tensor_dtype

from pyflux_transfer._version import __version__
from pyflux_transfer.errors import InputError

OPSET = 18
IR_VERSION = 9  # of ONNX 1.14 and ONNX Runtime 1.15
INSIDE_BYTES = 1024  # constants up to here decide shapes, and stay in the graph
LARGEST_BYTES = 2**31 - 2**20  # protobuf's limit, with room for what is not weights
Anything = np.ndarray[Any, Any]
Value = tuple[str, type[np.generic], tuple[int | str, ...]]  # name, dtype, shape


class Graph:
    """Nodes and constants under construction; a value is known by its name."""

    def __init__(self) -> None:
        self.scope = ""
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, Anything] = {}
        self._counts: Counter[str] = Counter()

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node and return the name of its value; of several outputs that of the first.

        The others are called the same with .1, .2 … behind.
        """
        name = self._named(op)
        names = [name, *(f"{name}.{i}" for i in range(1, outputs))]
        self._nodes.append(helper.make_node(op, inputs, names, name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32, name: str = "") -> str:
        """Keep an array and return its name; one name is one array."""
        name = name or self._named("constant")
        self._constants[name] = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        return name

    def choose(self, condition: str, then: Callable[[], str], other: Callable[[], str]) -> str:
        """Add two ways of which one is taken when the graph runs; both give float32."""
        branches = {}
        for key, write in (("then_branch", then), ("else_branch", other)):
            outside, self._nodes = self._nodes, []
            value = write()
            inside, self._nodes = self._nodes, outside
            gives = helper.make_tensor_value_info(value, TensorProto.FLOAT, None)
            branches[key] = helper.make_graph(inside, key, [], [gives])
        return self.node("If", condition, **branches)

    def rename(self, value: str, name: str) -> None:
        """Give the graph's output its name."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name))

    def model(
        self, given: Value, answers: Sequence[Value], facts: dict[str, str], about: str
    ) -> ModelProto:
        """Return the graph as a model. Raises InputError where it is too large for one file."""
        size = sum(value.nbytes for value in self._constants.values())
        if size > LARGEST_BYTES:
            raise InputError(
                f"The weights take {size / 2**30:.1f} GiB, and an ONNX file holds 2 GiB. "
                "Export a smaller architecture (see: pyflux-transfer models)."
            )
        model = self._model(given, answers, about)
        helper.set_model_props(model, facts)
        for name, value in self._constants.items():
            _declared(model, name, value).raw_data = value.tobytes()
        return model

    def outside(self, given: Value, answer: Value) -> tuple[ModelProto, dict[str, Anything]]:
        """Return the graph without its large constants, and these by name.

        A runtime in the same process takes them from where they are: they are not copied.
        """
        model, kept = self._model(given, [answer], ""), {}
        for name, value in self._constants.items():
            tensor = _declared(model, name, value)
            if value.nbytes <= INSIDE_BYTES:
                tensor.raw_data = value.tobytes()
                continue
            tensor.data_location = TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", "memory"
            kept[name] = value
        return model, kept

    def _model(self, given: Value, answers: Sequence[Value], about: str) -> ModelProto:
        values = [[_value(given)], [_value(answer) for answer in answers]]
        graph = helper.make_graph(self._nodes, "classifier", *values, doc_string=about)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
            producer_name="pyflux-transfer", producer_version=__version__, doc_string=about,
        )  # fmt: skip

    def _named(self, what: str) -> str:
        base = f"{self.scope}/{what}" if self.scope else what
        self._counts[base] += 1
        return base if self._counts[base] == 1 else f"{base}_{self._counts[base]}"


def _declared(model: ModelProto, name: str, value: Anything) -> TensorProto:
    """Add an initializer without its numbers; in place: large ones are not copied twice."""
    tensor = model.graph.initializer.add()
    tensor.name, tensor.data_type = name, np_dtype_to_tensor_dtype(value.dtype)
    tensor.dims.extend(value.shape)
    return tensor


def _value(value: Value) -> Any:
    name, dtype, shape = value
    return helper.make_tensor_value_info(name, np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
