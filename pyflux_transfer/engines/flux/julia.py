"""Starts Julia, once, and calls the Julia package PyFluxTransfer: the only user of juliacall.

Nothing of juliacall leaves this file but what `call` returned to `engines.flux`, and that holds
plain numbers only: a Julia object that another thread drops would enter Julia from there.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from typing import Any

import numpy as np

from pyflux_transfer.engines.process import claim
from pyflux_transfer.errors import EngineError, InputError, PyFluxTransferError, TrainingError
from pyflux_transfer.installation import environment

# Julia's exceptions → ours, by the name of their type; any other is an EngineError.
_ERRORS: dict[str, type[PyFluxTransferError]] = {
    "ArgumentError": InputError,
    "DimensionMismatch": InputError,
    "DomainError": TrainingError,
}

_package: Any = None
_thread = 0


def call(name: str, *arguments: Any, **options: Any) -> Any:
    """Call a function of the Julia package; start Julia where it does not run yet.

    Arguments are numbers, strings, tuples, and NumPy arrays in Julia's order of axes (`x.T`),
    which Julia reads and writes where they lie. Returns a number, a string, None, or a new NumPy
    array in Python's order of axes. Julia's exceptions arrive as ours, with Julia's message.
    """
    package = _started()
    from juliacall import JuliaError

    try:
        result = getattr(package, name)(*arguments, **options)
        return _plain(result)
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
    global _package, _thread
    claim(__name__)
    if _package is None:
        _package = _start()
        _thread = threading.get_ident()
    if threading.get_ident() != _thread:
        raise EngineError(
            "The flux engine was called from another thread than the one that started Julia. "
            "Use it from one thread, or a process for each."
        )
    return _package


def _start() -> Any:
    if missing := environment.readiness():
        raise EngineError(f"The flux engine cannot start: {missing}")
    julia = environment.registered()
    assert julia is not None  # readiness said so
    os.environ.update(environment.variables(julia))
    try:
        juliacall = importlib.import_module("juliacall")
        juliacall.Main.seval("using PyFluxTransfer: PyFluxTransfer")
        package = juliacall.Main.PyFluxTransfer
    except Exception as error:
        failure = EngineError(f"The flux engine cannot start: {error}. {environment.SETUP}")
    else:
        _let_python_hear_signals()
        return package
    raise failure


def _let_python_hear_signals() -> None:
    """Give Ctrl-C and SIGTERM back to Python, which acts when the running Julia call returns.

    Julia with several threads must handle signals itself (its threads stop each other by one). It
    blocks these two in every thread but its listener's and puts its own handler of SIGINT in place.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return
    ours = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)
    if threading.current_thread() is threading.main_thread():  # no other thread may
        for each in ours:
            if (handler := signal.getsignal(each)) is not None:
                signal.signal(each, handler)
