"""The exception tree, and the one lookup that answers an unknown name with a suggestion."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

Row = TypeVar("Row")
_UNWRITABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")


class PyFluxTransferError(Exception):
    """Base of every error this package raises; the message states value, rule and remedy."""

    exit_status = 1


class InputError(PyFluxTransferError):
    """What the user gave cannot be used: a name, an option, a file, an array."""

    exit_status = 2


class ImageError(InputError):
    """One image cannot be read; the message says why."""


class DataError(InputError):
    """A folder or table of images cannot be used as a dataset."""


class BundleError(InputError):
    """A bundle cannot be read: damaged, of another version, or with wrong tensors."""


class WeightsError(InputError):
    """Weights do not fit the network, or cannot be had."""


class StorageError(PyFluxTransferError):
    """Writing failed (disk full, no permission); what was there before is whole."""


class TrainingError(PyFluxTransferError):
    """Training cannot go on, for instance because the loss is not a number."""


class EngineError(PyFluxTransferError):
    """An engine cannot start, or failed inside a call."""


class ExportError(PyFluxTransferError):
    """An exported file does not answer as its bundle does."""


class ServiceError(PyFluxTransferError):
    """The service, or a running service asked by a client, cannot answer."""


def nearest(name: str, known: Iterable[str], least: float = 0.5) -> str | None:
    """Return the known name that is most alike, whatever its case; 1 is the same, 0 is nothing."""
    folded = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=least)
    return folded[near[0]] if near else None


def suggest(name: str, known: Iterable[str]) -> str:
    """Say `Did you mean …?` for the nearest known name, else nothing."""
    near = nearest(name, known)
    return f" Did you mean '{near}'?" if near else ""


def readable(name: object) -> str:
    """Return a name as text that can be written anywhere.

    Bytes that are no UTF-8 and characters that would steer a terminal are escaped.
    """
    # Python keeps a byte that is no UTF-8 as 0xdc00 more.
    return _UNWRITABLE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", str(name))


def shortened(name: object, limit: int = 120) -> str:
    """Return a name for a message: a long one by its beginning and end."""
    text = readable(name)
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"


def counted(count: int, word: str) -> str:
    """Return a count with its word, "1 image" or "2 images"."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def lookup(table: Mapping[str, Row], name: str, kind: str, see: str = "") -> Row:
    """Return `table[name]`, or raise InputError naming the nearest entry.

    `kind` is the word for what is looked up ("architecture"); `see` closes the message, by
    default with the list of what there is.
    """
    if name in table:
        return table[name]
    rest = see or f"Choose from: {', '.join(table)}."
    raise InputError(f"Unknown {kind} {name!r}.{suggest(str(name), list(table))} {rest}")
