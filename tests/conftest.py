"""Tests marked `flux` run in a process of their own (`-m flux`), where Julia is started.

They are skipped, with the reason, where no Julia is registered; with PYFLUX_REQUIRE_JULIA=1 that
is an error. The last lines of the run say how many ran and how many were skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pyflux_transfer.engines import ENGINES
from pyflux_transfer.installation import environment
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.storage import cache_folder

_missing: str | None = environment.readiness()
_STATUS = pytest.StashKey[int]()


def _only_flux(config: pytest.Config) -> bool:
    return bool(config.option.markexpr == "flux")


def pytest_configure(config: pytest.Config) -> None:
    # Julia would let what is released lie until the machine is nearly full.
    os.environ.setdefault("PYTHON_JULIACALL_HEAP_SIZE_HINT", "6G")
    # Each test has a cache folder of its own, but what is compiled stays for all.
    os.environ.setdefault("PYFLUX_DEPOTS", str(cache_folder() / "julia"))
    if _only_flux(config) and _missing and os.environ.get("PYFLUX_REQUIRE_JULIA") == "1":
        pytest.exit(f"flux tests need a Julia: {_missing}", returncode=1)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files without flux tests: some import torch, which must not come before Julia."""
    if not _only_flux(config) or collection_path.suffix != ".py":
        return None
    if not collection_path.name.startswith("test_"):
        return None
    return "pytest.mark.flux" not in collection_path.read_text("utf-8") or None


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    reason = _missing or "a process uses one engine: run `make test-flux`"
    if _missing is None and _only_flux(config):
        return
    for item in items:
        if item.get_closest_marker("flux"):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile the Julia package where that was not done: no single test should pay for it."""
    if session.items and _only_flux(session.config) and _missing is None:
        code = "from pyflux_transfer.engines.flux.julia import call; call('report')"
        subprocess.run([sys.executable, "-c", code], check=True)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not _only_flux(config):
        return
    counts = {
        kind: len([r for r in terminalreporter.getreports(kind) if r.when != "teardown"])
        for kind in ("passed", "failed", "error", "skipped")
    }
    ran = counts["passed"] + counts["failed"]
    line = f"flux tests: {ran} ran, {counts['skipped']} skipped"
    terminalreporter.write_line(line + (f" ({_missing})" if _missing else ""))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without Julia's exit handlers: with several threads they can crash (PythonCall 764)."""
    if "juliacall" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash.get(_STATUS, 1))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is cached between runs in the test's own folder."""
    monkeypatch.setenv("PYFLUX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer the NumPy engine as "fake", and its network as the architecture "tiny"."""
    from tests.engines import fake

    monkeypatch.setitem(ENGINES, "fake", "tests.engines.fake")
    monkeypatch.setitem(MODELS, "tiny", fake.TINY)
