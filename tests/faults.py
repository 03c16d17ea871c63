"""Functions that fail on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any


def fails_third(function: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """Return the function, but its third call raises `error`."""
    calls = itertools.count(1)

    def failing(*given: Any) -> Any:
        if next(calls) == 3:
            raise error
        return function(*given)

    return failing
