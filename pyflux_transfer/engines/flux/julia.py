"""Starts Julia, once, and calls the Julia package PyFluxTransfer: the only user of juliacall.

One thread starts Julia and makes every call. Nothing of juliacall leaves this file: a Julia object
that another thread drops would enter Julia from there. Calls cross as text, arrays as addresses
(see `julia/src/crossing.jl`): what juliacall would convert is compiled anew in every process.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pyflux_transfer.engines.flux.owner import Owner
from pyflux_transfer.engines.process import claim
from pyflux_transfer.errors import (
    EngineError,
    InputError,
    PyFluxTransferError,
    TrainingError,
    WeightsError,
)
from pyflux_transfer.installation import depot, environment

# Julia's exceptions → ours, by the name of their type; any other is an EngineError.
_ERRORS: dict[str, type[PyFluxTransferError]] = {
    "ArgumentError": InputError,
    "BrokenArtifact": WeightsError,
    "DimensionMismatch": InputError,
    "DomainError": TrainingError,
}

# Julia takes the stack of the thread that starts it for as large as a main thread's.
_STACK_BYTES = 64 << 20
_END_S = 10.0  # how long the end of the process waits for a call under way

_owner = Owner("Julia", _STACK_BYTES)
_package: Any = None
_answer: Callable[[bytes], bytes]  # there once Julia runs; other threads go on while it computes


def call(name: str, *arguments: Any, **options: Any) -> Any:
    """Call a function of the Julia package, from any thread; start Julia where it does not run yet.

    Arguments are numbers, strings, None, and NumPy arrays in Julia's order of axes (`x.T`), which
    Julia reads and writes where they lie; lists of those. Returns a number, a string, None, a list
    of strings, or a new NumPy array in Python's order of axes. Julia's exceptions arrive as ours,
    with Julia's message. Ctrl-C is heard at once; the call under way still ends before the next one
    begins.
    """
    claim(__name__)
    return _owner.run(lambda: _called(name, arguments, options))


def inside(work: Callable[[Any], Any]) -> Any:
    """Return what `work` makes of the Julia package, in the thread that owns Julia.

    For work that handles objects of Julia: none may leave it. Returns plain values and new NumPy
    arrays, whose axes stand in Julia's order; raises as `call` does, and InputError for any other
    object of Julia.
    """
    claim(__name__)
    return _owner.run(lambda: _worked(work))


def function(text: str) -> Any:
    """Return the function that Julia's text means; for use within `inside`."""
    from juliacall import Main

    return Main.seval(text)


def _worked(work: Callable[[Any], Any]) -> Any:
    package = _started()
    from juliacall import AnyValue, ArrayValue, JuliaError

    try:
        result = work(package)
        if isinstance(result, ArrayValue):
            result = np.array(result)
        if not _holds(result, AnyValue):
            return result
        kind = str(type(result).__name__)
        del result
        failure: PyFluxTransferError = InputError(
            f"A Julia object ({kind}) cannot leave Julia's thread. Let the function return "
            "numbers, text, an array of numbers, or nothing."
        )
    except JuliaError as error:
        failure = _translated(error)
    raise failure


def _holds(result: Any, kind: type) -> bool:
    """Tell whether a result is, or holds, an object of this kind."""
    if isinstance(result, (tuple, list, set)):
        return any(_holds(each, kind) for each in result)
    if isinstance(result, dict):
        return any(_holds(each, kind) for each in [*result, *result.values()])
    if isinstance(result, np.ndarray):
        return bool(result.dtype == object)
    return isinstance(result, kind)


def _called(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    _started()
    row = {"name": name, "arguments": arguments, "options": options}
    answer = json.loads(_answer(json.dumps(row, default=_described).encode()))
    if "error" in answer:
        raise _error(*answer["error"])
    if "array" in answer:
        return _copied(**answer["array"])
    return float(answer["number"]) if "number" in answer else answer["value"]


def _described(value: Any) -> Any:
    """Return what stands for an array, or for one of NumPy's numbers, in a call."""
    if isinstance(value, np.generic):
        return value.item()
    if not (isinstance(value, np.ndarray) and value.flags.f_contiguous):
        raise TypeError(f"Julia cannot be given {type(value).__name__}: {value!r}")
    return {"at": value.ctypes.data, "type": value.dtype.name, "size": value.shape}


def _copied(at: int, type: str, size: list[int]) -> Any:
    """Return a copy of an array in Julia's memory, which is there until the next call."""
    array = np.empty(size[::-1], type)
    ctypes.memmove(array.ctypes.data, at, array.nbytes)
    return array


def _translated(error: Any) -> PyFluxTransferError:
    """Return ours for an exception that juliacall raised."""
    from juliacall import Base

    kind = str(Base.string(Base.nameof(Base.typeof(error.exception))))
    return _error(kind, str(Base.sprint(Base.showerror, error.exception)))


def _error(kind: str, message: str) -> PyFluxTransferError:
    text = message.split("\nStacktrace")[0]
    return _ERRORS.get(kind, EngineError)(f"Julia: {text}")


def _started() -> Any:
    global _package
    if _package is None:
        _package = _start()
    return _package


def _start() -> Any:
    global _answer
    if missing := environment.readiness():
        raise EngineError(f"The flux engine cannot start: {missing}")
    julia = environment.registered()
    assert julia is not None  # readiness said so
    values = environment.variables(julia)
    os.environ.update(values)
    package = environment.julia_package()
    ready = "PYTHON_JULIACALL_SYSIMAGE" in values or depot.compiled(package, values)
    try:
        with _signals_kept(), _input_kept():
            juliacall = importlib.import_module("juliacall")
            environment.STARTED.add(os.getpid())
            atexit.register(_end, juliacall.CONFIG["lib"], os.getpid())
            if not ready:
                print(depot.COMPILING, file=sys.stderr, flush=True)
            juliacall.Main.seval("using PyFluxTransfer: PyFluxTransfer")
            entry = juliacall.Main.seval("PyFluxTransfer.entry()")
            # The first Julia object that Python drops makes Julia compile how that is done. Were
            # it one of those that are left at the end, Julia would have ended, and this would not.
            juliacall.Main.seval("Ref(0)")
            _answer = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_char_p)(entry)
        return juliacall.Main.PyFluxTransfer
    except Exception as error:
        failure = EngineError(f"The flux engine cannot start: {error}. {environment.SETUP}")
    raise failure


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Leave Ctrl-C and SIGTERM to Python while Julia starts.

    Julia with several threads must handle signals itself (its threads stop each other by one), and
    takes these two as well. They are put back as the system has them, which any thread may do. Its
    threads, this one included, block them: the main thread hears them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    system = ctypes.CDLL(None)
    kept = {each: ctypes.create_string_buffer(256) for each in (signal.SIGINT, signal.SIGTERM)}
    for each, action in kept.items():
        system.sigaction(int(each), None, action)
    try:
        yield
    finally:
        for each, action in kept.items():
            system.sigaction(int(each), action, None)


@contextlib.contextmanager
def _input_kept() -> Iterator[None]:
    """Leave the standard input as it is: Julia lets reading it return at once, as if at its end."""
    try:
        waits = os.get_blocking(0)
    except (AttributeError, OSError):  # Windows before Python 3.12; there is no input
        yield
        return
    try:
        yield
    finally:
        os.set_blocking(0, waits)


def _end(library: Any, process: int) -> None:
    """End Julia in its own thread, instead of by juliacall in the one that ends Python."""
    end = library.jl_atexit_hook
    end.argtypes, end.restype = [ctypes.c_int], None
    library.jl_atexit_hook = lambda _: None
    if os.getpid() != process:  # a fork, which has none of Julia's threads
        return
    try:
        _owner.run(lambda: end(0), _END_S)
    except TimeoutError:
        # Only a call that was interrupted is still under way. Python cannot end around it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + signal.SIGINT)
