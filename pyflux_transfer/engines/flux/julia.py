"""Starts Julia, once, and calls the Julia package PyFluxTransfer: the only user of juliacall.

One thread starts Julia and makes every call. Nothing of juliacall leaves this file but what `call`
returns to `engines.flux`, and that holds plain numbers only: a Julia object that another thread
drops would enter Julia from there.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
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


def call(name: str, *arguments: Any, **options: Any) -> Any:
    """Call a function of the Julia package, from any thread; start Julia where it does not run yet.

    Arguments are numbers, strings, tuples, and NumPy arrays in Julia's order of axes (`x.T`),
    which Julia reads and writes where they lie; lists of those. Returns a number, a string, None,
    or a new NumPy array in Python's order of axes. Julia's exceptions arrive as ours, with Julia's
    message. Ctrl-C is heard at once; the call under way still ends before the next one begins.
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
    package = _started()
    from juliacall import JuliaError

    function = getattr(package, name)
    # What crosses as plain numbers and memory needs nothing of Python while Julia computes, so
    # that other threads go on. A list or dict is read by Julia through Python.
    plain = not any(isinstance(value, (list, dict)) for value in arguments)
    try:
        return _plain((function._jl_call_nogil if plain else function)(*arguments, **options))
    except JuliaError as error:
        failure = _translated(error)
    raise failure  # outside the handler: ours must not hold the Julia exception as its context


def _plain(result: Any) -> Any:
    if result is None or isinstance(result, (bool, int, float, str)):
        return result
    array = np.asarray(result)
    # A view of Julia's memory would keep a Julia object alive: copy it once.
    return array.tolist() if array.dtype == object else np.array(array.T, order="C")


def _translated(error: Any) -> PyFluxTransferError:
    from juliacall import Base

    message = str(Base.sprint(Base.showerror, error.exception)).split("\nStacktrace")[0]
    kind = str(Base.string(Base.nameof(Base.typeof(error.exception))))
    return _ERRORS.get(kind, EngineError)(f"Julia: {message}")


def _started() -> Any:
    global _package
    if _package is None:
        _package = _start()
    return _package


def _start() -> Any:
    if missing := environment.readiness():
        raise EngineError(f"The flux engine cannot start: {missing}")
    julia = environment.registered()
    assert julia is not None  # readiness said so
    os.environ.update(environment.variables(julia))
    try:
        with _signals_kept():
            juliacall = importlib.import_module("juliacall")
            environment.STARTED.add(os.getpid())
            atexit.register(_end, juliacall.CONFIG["lib"], os.getpid())
            if not juliacall.Main.seval(_COMPILED):
                print(depot.COMPILING, file=sys.stderr, flush=True)
            juliacall.Main.seval("using PyFluxTransfer: PyFluxTransfer")
        return juliacall.Main.PyFluxTransfer
    except Exception as error:
        failure = EngineError(f"The flux engine cannot start: {error}. {environment.SETUP}")
    raise failure


_COMPILED = """
let package = Base.identify_package("PyFluxTransfer")
    package === nothing || Base.isprecompiled(package)
end
"""


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
