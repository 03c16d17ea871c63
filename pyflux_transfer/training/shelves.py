"""Where a run's features lie: the kept store, and beside it a file of this run alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pyflux_transfer.errors import StorageError
from pyflux_transfer.networks.tensors import Array, Shape
from pyflux_transfer.training.callbacks import Watcher
from pyflux_transfer.training.store import Store


@dataclass
class Shelves:
    """Rows by key, in a kept store where there is one, and in a temporary one where it fails."""

    shape: Shape
    watcher: Watcher
    kept: Store | None = None
    _spare: Store | None = field(default=None, init=False)

    def __contains__(self, key: bytes) -> bool:
        """Tell whether there is a row of this key."""
        return any(key in store.index for store in self._stores)

    @property
    def _stores(self) -> list[Store]:
        return [store for store in (self.kept, self._spare) if store is not None]

    def damaged(self, keys: Sequence[bytes]) -> int:
        """Forget the kept rows of these keys that are damaged; return how many."""
        if self.kept is None:
            return 0
        return len(
            self.kept.damaged([key for key in dict.fromkeys(keys) if key in self.kept.index])
        )

    def append(self, keys: Sequence[bytes], rows: Array) -> None:
        """Add rows; where the kept store takes no more, the rest is kept for this run only."""
        if self._spare is None and self.kept is not None:
            try:
                self.kept.append(keys, rows)
                return
            except StorageError as error:
                self._say(error)
        if self._spare is None:
            self._spare = self._temporary()
        try:
            self._spare.append(keys, rows)
        except StorageError as error:
            raise _no_room(error.__cause__ or error) from error

    def flush(self) -> None:
        """Bring what was added to the kept store onto the disk."""
        if self.kept is not None:
            try:
                self.kept.flush()
            except StorageError as error:
                self._say(error)

    def read(self, keys: Sequence[bytes]) -> Array:
        """Return the rows of the keys (N, *shape)."""
        stores = self._stores
        if len(stores) == 1:
            return stores[0].read(keys)
        out = np.empty((len(keys), *self.shape), np.float32)
        for row, key in zip(out, keys, strict=True):
            row[...] = next(store for store in stores if key in store.index).read([key])[0]
        return out

    def close(self) -> None:
        """Close the files."""
        for store in self._stores:
            store.close()

    def _say(self, error: StorageError) -> None:
        reason = str(error.__cause__ or error)
        self.watcher.line(f"the feature cache takes no more ({reason}): features are not kept")

    def _temporary(self) -> Store:
        try:
            # The open files keep the rows readable after the folder is gone.
            with tempfile.TemporaryDirectory(prefix="pyflux-features-") as folder:
                return Store(Path(folder), self.shape, lasting=False)
        except (OSError, StorageError) as error:
            raise _no_room(error) from error


def _no_room(error: BaseException) -> StorageError:
    return StorageError(
        f"Features need a temporary file in {tempfile.gettempdir()}, which cannot be written: "
        f"{error}. Free some space, or set TMPDIR to another folder."
    )
