"""What a source names, before any image is opened: entries, and listings of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pyflux_transfer.data.walk import Skipped


class Content(Protocol):
    """The bytes of an image that is in memory, or in a file of many."""

    def read(self, size: int = -1, /) -> bytes:
        """Return all its bytes, each time it is asked, or no more than `size`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An image, the name of its class and, where a table tells it, of its group.

    It is the file at `path` or, where there is `content`, that, and the path is but a name.
    """

    path: Path
    name: str
    group: str | None = None
    content: Content | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Listing:
    """Entries by split, what cannot be read by split, and what a user should know before.

    `order` holds the classes where the source gives them one, as categories and numbers have.
    """

    parts: dict[str, list[Entry]]
    skipped: dict[str, list[Skipped]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
