"""The versions of the engines are told without starting one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pyflux_transfer.installation import environment
from pyflux_transfer.installation.versions import versions

MANIFEST = """julia_version = "1.11.4"

[[deps.Flux]]
deps = ["Adapt", "NNlib"]
git-tree-sha1 = "a"
uuid = "b"
version = "0.16.5"

    [deps.Flux.extensions]
    FluxAMDGPUExt = "AMDGPU"

[[deps.FluxExtra]]
version = "9.9.9"

[[deps.LinearAlgebra]]
uuid = "c"
version = "1.11.0"

[[deps.Metalhead]]
version = "0.9.5"
"""


@pytest.fixture
def julia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    exe = tmp_path / "julia"
    exe.write_text("#!/bin/sh\necho 'julia version 1.11.4'\n")
    exe.chmod(0o755)
    file = tmp_path / "config.json"
    row = {"exe": str(exe), "project": str(tmp_path), "load_path": []}
    file.write_text(json.dumps({"julia": row}))
    monkeypatch.setenv("PYFLUX_CONFIG", str(file))
    monkeypatch.setattr(environment, "readiness", lambda: None)
    return tmp_path


def flux() -> str:
    return dict(versions())["flux engine"]


@pytest.mark.parametrize("name", ["Manifest.toml", "Manifest-v1.11.toml"])
def test_a_registered_julia_tells_its_versions(name: str, julia: Path) -> None:
    (julia / name).write_text(MANIFEST)
    assert flux().startswith("Julia 1.11.4, Flux 0.16.5, Metalhead 0.9.5, juliacall ")


def test_without_a_manifest_julia_alone_is_told(julia: Path) -> None:
    del julia
    assert flux().startswith("Julia 1.11.4, juliacall ")


def test_a_julia_that_says_nothing_is_no_error(julia: Path) -> None:
    (julia / "julia").write_text("#!/bin/sh\nexit 3\n")
    assert "see: pyflux-transfer doctor" in flux()


def test_an_engine_that_is_not_there_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYFLUX_CONFIG", str(tmp_path / "none.json"))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert flux() == "none, no Julia is set up. Run: pyflux-transfer setup"
    assert dict(versions())["torch engine"].startswith("PyTorch ")
