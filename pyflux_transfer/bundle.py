"""The bundle: one `.safetensors` file with the weights and, in its header, everything else.

The header's metadata holds one JSON text under `pyflux_transfer`, with a `format` number and the
network's plan, by which Julia builds it without this package. Nothing is pickled. Files are written
beside the old one and renamed, so that a save that fails midway (disk full, interrupted) leaves the
old file whole.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pyflux_transfer.engines.base import Plan, check_cut
from pyflux_transfer.errors import (
    BundleError,
    InputError,
    StorageError,
    WeightsError,
    shortened,
)
from pyflux_transfer.insight.belonging import Belonging
from pyflux_transfer.networks.catalog import Architecture, architecture
from pyflux_transfer.networks.head import Head, class_names
from pyflux_transfer.networks.own import from_plan, is_own
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import State, check_finite, check_state
from pyflux_transfer.storage import replacing

Field = TypeVar("Field")
FORMAT = 5
KEY = "pyflux_transfer"
_FIELDS = {"format", "architecture", "classes", "head", "preprocessing", "cut", "info"}
_FORMATS = {  # that can be read, and their fields
    1: _FIELDS,
    2: _FIELDS | {"temperature"},
    3: _FIELDS | {"temperature", "plan"},
    4: _FIELDS | {"temperature", "plan", "belonging"},
    5: _FIELDS | {"temperature", "plan", "belonging"},  # belonging tells what it takes of logits
}
_BELONGING = "belonging."  # before the names of its tensors, which stand beside the weights


@dataclass(frozen=True)
class Bundle:
    """A trained classifier, complete: what it is, what it knows, and its weights.

    `cut` is where it was last trained from. `info` tells of its making (engine, versions, date,
    metrics) and is not needed to use it. Logits are divided by `temperature` before the softmax.
    `belonging` tells photos that are none of the classes, where it was learnt.
    """

    architecture: str
    classes: tuple[str, ...]
    head: Head | None
    preprocessing: Preprocessing
    cut: int
    state: State = field(repr=False)
    info: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    belonging: Belonging | None = None
    own: Architecture | None = None  # the row of a network of one's own

    @property
    def row(self) -> Architecture:
        """The architecture's row: in the catalog, or what the plan of one's own network tells."""
        return self.own or architecture(self.architecture)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the weights as plain data."""
        # Late: who reads a bundle needs nothing of Julia's.
        from pyflux_transfer.engines.flux.network import describe as plan_text

        return {
            "format": FORMAT,
            "architecture": self.architecture,
            "classes": list(self.classes),
            "head": asdict(self.head) if self.head else None,
            "preprocessing": self.preprocessing.to_json(),
            "cut": self.cut,
            "info": self.info,
            "temperature": self.temperature,
            "plan": plan_text(Plan(self.row, self.head)),
            "belonging": self.belonging and self.belonging.to_json(),
        }


def write(path: str | Path, bundle: Bundle) -> Path:
    """Save a bundle atomically and return its path.

    Raises StorageError when it cannot be written; a file that was there before is then unchanged.
    """
    beside = bundle.belonging.tensors() if bundle.belonging else {}
    tensors = {**bundle.state, **{_BELONGING + name: value for name, value in beside.items()}}
    return write_tensors(path, tensors, {KEY: json.dumps(bundle.to_json())})


def describe(path: str | Path) -> Bundle:
    """Read a bundle without its weights (`state` is empty): only the header is touched."""
    with _open(path) as file:
        return _parse(path, file.metadata(), _beside(path, file))


def read(path: str | Path) -> Bundle:
    """Read a bundle and compare its tensors with what its architecture and head must have.

    Raises BundleError for a damaged file, an unknown version or field, a field that cannot be,
    tensors that are missing, misshaped or hold values that are no numbers, each named.
    """
    with _open(path) as file:
        bundle = _parse(path, file.metadata(), _beside(path, file))
        _check_kinds(path, file, "")
        weights = [
            name
            for name in file.keys()  # noqa: SIM118
            if not (bundle.belonging and name.startswith(_BELONGING))
        ]
        state = {name: file.get_tensor(name) for name in weights}
    try:
        check_state(state, Plan(bundle.row, bundle.head).units)
        check_finite(state)
    except WeightsError as error:
        raise BundleError(f"{path} is damaged or was edited. {error}") from None
    return replace(bundle, state=state)


def is_bundle(path: str | Path) -> bool:
    """Tell whether a `.safetensors` file is one of ours and not bare weights."""
    with _open(path) as file:
        return KEY in (file.metadata() or {})


def write_tensors(
    path: str | Path, tensors: Mapping[str, np.ndarray[Any, Any]], metadata: dict[str, str]
) -> Path:
    """Write a safetensors file beside `path`, flush it to the disk and rename it."""
    target = Path(path)
    arrays = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    try:
        with replacing(target) as temporary:
            save_file(arrays, temporary, metadata)
    except SafetensorError as error:
        raise StorageError(
            f"Cannot write {target}: {error}. What was there before is unchanged. "
            "Free some space or choose another place."
        ) from error
    return target


def read_tensors(path: str | Path) -> tuple[State, dict[str, str]]:
    """Return the tensors and the metadata of any safetensors file."""
    with _open(path) as file:
        return {n: file.get_tensor(n) for n in file.keys()}, file.metadata() or {}  # noqa: SIM118


@contextlib.contextmanager
def _open(path: str | Path) -> Iterator[Any]:
    try:
        if not Path(path).is_file():
            raise InputError(f"No such file: {shortened(path)}.")
        with safe_open(str(path), framework="numpy") as file:
            yield file
    except OSError as error:
        raise BundleError(
            f"{shortened(path)} cannot be read: {error.strerror or error}."
        ) from error
    except SafetensorError as error:
        raise BundleError(
            f"{path} is not a readable .safetensors file ({error}). "
            "It may be cut short: copy it again."
        ) from None


def _beside(path: str | Path, file: Any) -> State:
    """Return the tensors that are no weights: those of belonging, by their own names."""
    _check_kinds(path, file, _BELONGING)
    names = [name for name in file.keys() if name.startswith(_BELONGING)]  # noqa: SIM118
    return {name.removeprefix(_BELONGING): file.get_tensor(name) for name in names}


def _check_kinds(path: str | Path, file: Any, prefix: str) -> None:
    """Refuse tensors, of names that begin so, that are not float32."""
    for name in file.keys():  # noqa: SIM118
        kind = file.get_slice(name).get_dtype()
        if name.startswith(prefix) and kind != "F32":
            raise BundleError(
                f"{path} is damaged or was edited. Its tensor '{name}' is {kind}, not F32."
            )


def _parse(path: str | Path, metadata: dict[str, str] | None, beside: State) -> Bundle:
    if not metadata or KEY not in metadata:
        raise BundleError(
            f"{path} holds bare weights, not a bundle. Give it as weights= of an architecture."
        )
    try:
        row = json.loads(metadata[KEY])
        version = row["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: the description cannot be read ({error!r}).") from None
    fields = _FORMATS.get(version) if type(version) is int else None
    if fields is None:
        raise BundleError(
            f"{path} is a bundle of format {version!r}; this version reads "
            f"{', '.join(map(str, _FORMATS))}. Upgrade "
            "pyflux-transfer, or save the bundle again with the version that made it."
        )
    if unknown := sorted(set(row) - fields):
        raise BundleError(f"{path}: unknown fields {unknown}. Upgrade pyflux-transfer.")
    try:
        made = from_plan(row["plan"]) if version > 2 and is_own(row["architecture"]) else None
        head = row["head"] and Head(**{**row["head"], "hidden": tuple(row["head"]["hidden"])})
        bundle = Bundle(
            row["architecture"],
            _names(row["classes"]),
            head,
            Preprocessing.from_json(row["preprocessing"]),
            _of(int, row["cut"], "cut"),
            {},
            _of(dict, row["info"], "info"),
            _temperature(row["temperature"]) if version > 1 else 1.0,
            _belonging(row["belonging"], beside) if version > 3 else None,
            made,
        )
        if version > 2:
            _of(str, row["plan"], "plan")
        plan = Plan(bundle.row, head)
        check_cut(bundle.cut, plan.units)
    except KeyError as error:
        raise BundleError(f"{path}: the description cannot be used (it lacks {error}).") from None
    except (TypeError, ValueError, AttributeError, RecursionError, InputError) as error:
        raise BundleError(f"{path}: the description cannot be used ({error}).") from None
    if len(bundle.classes) != plan.classes:
        raise BundleError(f"{path} names {len(bundle.classes)} classes for {plan.classes} outputs.")
    return bundle


def _names(given: Any) -> tuple[str, ...]:
    if not all(isinstance(name, str) for name in _of(list, given, "classes")):
        raise InputError(f"classes must be text, got {given!r}")
    return class_names(given)


def _of(kind: type[Field], given: Any, name: str) -> Field:
    """Return a field that is of its JSON kind."""
    if type(given) is not kind:
        raise InputError(f"{name} must be a JSON {kind.__name__}, got {given!r}")
    return given


def _belonging(given: Any, beside: State) -> Belonging | None:
    if given is None:
        return None
    return Belonging.from_json(_of(dict, given, "belonging"), beside)


def _temperature(given: Any) -> float:
    if type(given) not in (int, float) or not 0 < given < math.inf:
        raise InputError(f"The temperature must be a positive number, got {given!r}")
    return float(given)
