"""What an exported file tells of itself, in its metadata: text by name, JSON where it is more."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pyflux_transfer._version import __version__
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.networks.preprocessing import Preprocessing

# name → what of a bundle it holds; None is left out
_FACTS: dict[str, Callable[[Bundle], Any]] = {
    "classes": lambda bundle: list(bundle.classes),
    "architecture": lambda bundle: bundle.architecture,
    "weights": lambda bundle: bundle.info.get("weights"),
    "preprocessing": lambda bundle: bundle.preprocessing.to_json(),
    "temperature": lambda bundle: bundle.temperature,
    "belonging": lambda bundle: bundle.belonging and bundle.belonging.promise(),
    "provenance": lambda bundle: bundle.info or None,
}


def facts(bundle: Bundle, given: str) -> dict[str, str]:
    """Return the metadata of a bundle's export; `given` is what the graph takes."""
    found = {name: tell(bundle) for name, tell in _FACTS.items()}
    found |= {"input": given, "exporter": f"pyflux-transfer {__version__}"}
    return {name: _text(value) for name, value in found.items() if value is not None}


def about(bundle: Bundle, given: str) -> str:
    """Return the lines that a viewer of graphs shows."""
    return f"{bundle.architecture}, {len(bundle.classes)} classes. {_TAKES[given](bundle)}"


def _image(_: Bundle) -> str:
    return (
        "Takes one upright sRGB photo, 'image' (height, width, 3) uint8 of any size; it is resized "
        "and normalised here. Gives 'probabilities' (1, classes), in the order of the metadata's "
        "'classes'."
    )


def _tensor(bundle: Bundle) -> str:
    how: Preprocessing = bundle.preprocessing
    return (
        f"Takes a batch of prepared images, 'images' (N, 3, {how.crop}, {how.crop}) float32, as "
        "the metadata's 'preprocessing' tells. Gives 'probabilities' (N, classes), in the order of "
        "the metadata's 'classes'."
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_TAKES: dict[str, Callable[[Bundle], str]] = {"image": _image, "tensor": _tensor}
INPUTS = tuple(_TAKES)
