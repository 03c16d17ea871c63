"""The doctor names what is there, and for what is not its remedy."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

from pyflux_transfer.installation import doctor as module
from pyflux_transfer.installation import environment
from pyflux_transfer.installation.doctor import Check, doctor, julia_checks
from pyflux_transfer.installation.environment import Julia, register


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYFLUX_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("PYFLUX_DEPOTS", str(tmp_path / "depots"))


def julia(folder: Path, answer: str) -> Julia:
    exe = folder / "julia"
    exe.write_text(f"#!/bin/sh\n{answer}\n", "utf-8")
    exe.chmod(0o755)
    return Julia(str(exe), str(folder), depot="/depot")


def named(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_without_julia_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "readiness", lambda: "no Julia is set up. Run: …")
    checks = named(doctor())
    assert checks["Python"].ok
    assert not checks["flux engine"].ok
    assert "no Julia is set up" in checks["flux engine"].remedy
    assert "Julia" not in checks


def test_a_missing_package_has_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    checks = named(doctor())
    assert checks["torch"].remedy == "pip install 'pyflux-transfer[torch]'"
    assert checks["juliacall"].remedy == "pip install 'pyflux-transfer[flux]'"


def test_julia_tells_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "printf 'Julia\\t1.11.2\\nBLAS kernels\\tPrescott\\nGPU\\tnone\\nGFLOP/s\\t36\\n'"
    register(julia(tmp_path, answer))
    monkeypatch.setattr(environment, "readiness", lambda: None)
    monkeypatch.setattr(module, "better_kernels", lambda _: "SkylakeX")
    checks = named(doctor())
    assert checks["Julia"] == Check("Julia", True, "1.11.2")
    assert not checks["BLAS kernels"].ok
    assert "36 GFLOP/s" in checks["BLAS kernels"].value
    assert "OPENBLAS_CORETYPE=SkylakeX" in checks["BLAS kernels"].remedy
    assert checks["GPU"].ok
    assert "setup --gpu" in checks["GPU"].remedy
    assert checks["Julia packages' cache"].value.endswith(f"{os.pathsep}/depot")


def test_good_kernels_are_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "better_kernels", lambda _: "")
    answer = "printf 'BLAS kernels\\tSkylakeX\\nGPU\\tcuda:0 (X)\\nGFLOP/s\\t340\\n'"
    checks = named(julia_checks(julia(tmp_path, answer)))
    assert checks["BLAS kernels"] == Check("BLAS kernels", True, "SkylakeX")
    assert checks["GPU"].value == "cuda:0 (X)"


def test_a_julia_that_fails(tmp_path: Path) -> None:
    (check,) = julia_checks(julia(tmp_path, "echo 'ERROR: no Flux' >&2; exit 1"))
    assert check == Check("Julia", False, "ERROR: no Flux", "Run: pyflux-transfer setup")


def test_a_julia_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JULIA_S", 0.2)
    (check,) = julia_checks(julia(tmp_path, "exec sleep 30"))
    assert not check.ok
    assert "timed out" in check.value
