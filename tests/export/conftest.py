from __future__ import annotations

import pytest

from pyflux_transfer.export import running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time once, on one thread: several wait for each other where other programs run."""
    monkeypatch.setattr(running, "_RUNS", 1)
    monkeypatch.setattr(running.Exported.__init__, "__defaults__", (1,))
