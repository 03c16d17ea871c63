"""Images that were seen to decode, by the digest of their content: no run decodes them again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from pyflux_transfer.data.decode import REVISION
from pyflux_transfer.storage import open_appending

_FILE = f"readable-{REVISION}.bin"  # what another decoder read need not be read by this one
_BYTES = 32  # of a digest


def known(folder: Path) -> set[str]:
    """Return the content digests of images that were seen to decode; none where it cannot."""
    try:
        data = (folder / _FILE).read_bytes()
    except OSError:
        return set()
    end = len(data) - len(data) % _BYTES
    return {data[i : i + _BYTES].hex() for i in range(0, end, _BYTES)}


def remember(folder: Path, digests: Collection[str]) -> None:
    """Add content digests of images that were seen to decode; losing this file costs only time."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with open_appending(folder / _FILE) as file:
            end = file.seek(0, os.SEEK_END)
            if rest := end % _BYTES:  # a full disk has cut the last one short
                file.truncate(end - rest)
            file.write(b"".join(bytes.fromhex(digest) for digest in digests))


def forget(folder: Path) -> None:
    """Delete what is remembered, by earlier versions too."""
    for path in folder.glob("readable*.bin"):
        path.unlink(missing_ok=True)
