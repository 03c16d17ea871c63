"""The chain of a network as Julia has it, for code of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyflux_transfer.engines.flux import julia


class Handle:
    """A network's Flux `Chain`, in the thread that owns Julia.

    Objects of Julia belong to that thread: they are used where they live, by functions that are
    sent there, and plain values come back. What such a function does to the weights is seen by
    everything that computes with the network afterwards.
    """

    def __init__(self, number: int, network: object) -> None:
        self._number = number
        self._network = network  # which keeps the chain in Julia

    def run(self, function: str | Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function makes of the chain, called from any thread.

        `function` is Julia's as text, `"chain -> size(chain[1].weight)"`, which is called with the
        chain and the arguments; or Python's, which gets juliacall's objects. Arguments are numbers,
        text and NumPy arrays, which Julia sees with their axes as they are; so are results: arrays
        come as copies, with Julia's order of axes. Raises InputError where the result is any other
        object of Julia, EngineError or what else is said of Julia's exceptions otherwise.
        """
        try:
            return julia.inside(
                lambda package: _applied(package, self._number, function, arguments)
            )
        finally:
            julia.call("changed", self._number)

    def __call__(self, x: Any) -> Any:
        """Run the chain on an array in Julia's order of axes, (W,H,C,N) for images."""
        return self.run("(chain, x) -> chain(convert(Array, x))", x)

    def __repr__(self) -> str:
        """Show the chain as Flux does."""
        return str(self.run('chain -> sprint(show, MIME"text/plain"(), chain)'))


def _applied(
    package: Any, number: int, function: str | Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    applied = julia.function(function) if isinstance(function, str) else function
    return applied(package.chain_of(number), *arguments)
