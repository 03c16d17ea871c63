"""What is registered, where the Julia package lies, and what is told when something is missing."""

from __future__ import annotations

import json
import os
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest

from pyflux_transfer.errors import EngineError
from pyflux_transfer.installation import depot, environment
from pyflux_transfer.installation.environment import Julia, register, registered, variables


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "settings" / "config.json"
    monkeypatch.setenv("PYFLUX_CONFIG", str(file))
    monkeypatch.setenv("PYFLUX_DEPOTS", str(tmp_path / "depots"))
    return file


@pytest.fixture
def julia(tmp_path: Path) -> Julia:
    exe = tmp_path / "julia"
    exe.touch()
    return Julia(str(exe), str(tmp_path), ("/somewhere",), "/depot", 3, {"A": "b"}, "1.2.3")


@pytest.fixture
def juliacall(monkeypatch: pytest.MonkeyPatch) -> None:
    """A juliacall that fits, and no torch, as far as `readiness` can see."""
    monkeypatch.setattr(metadata, "version", lambda _: "1.2.3")
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def test_nothing_is_registered_at_first() -> None:
    assert registered() is None


def test_what_was_registered_is_read_again(julia: Julia, config: Path) -> None:
    config.parent.mkdir()
    config.write_text('{"other": 1}', "utf-8")
    assert register(julia) == config
    assert registered() == julia
    assert json.loads(config.read_text("utf-8"))["other"] == 1


@pytest.mark.usefixtures("juliacall")
@pytest.mark.parametrize("text", ["{", "[]", '{"julia": {"exe": 1}}', '{"julia": {"new": 1}}'])
def test_a_damaged_file_is_told(config: Path, text: str) -> None:
    config.parent.mkdir()
    config.write_text(text, "utf-8")
    with pytest.raises(EngineError, match="pyflux-transfer setup"):
        registered()
    assert "pyflux-transfer setup" in str(environment.readiness())


def test_without_the_variable_it_is_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYFLUX_CONFIG")
    assert environment.config_file().parts[-2:] == ("pyflux-transfer", "config.json")


@pytest.mark.usefixtures("juliacall")
def test_ready(julia: Julia) -> None:
    register(julia)
    assert environment.readiness() is None


def test_juliacall_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "pip install 'pyflux-transfer[flux]'" in str(environment.readiness())


@pytest.mark.usefixtures("juliacall")
def test_no_julia_is_registered() -> None:
    assert "no Julia is set up. Run: pyflux-transfer setup" in str(environment.readiness())


@pytest.mark.usefixtures("juliacall")
def test_the_julia_is_gone(julia: Julia) -> None:
    register(julia)
    Path(julia.exe).unlink()
    assert f"{julia.exe} does not exist" in str(environment.readiness())


@pytest.mark.usefixtures("juliacall")
def test_pythoncall_of_another_version(julia: Julia, monkeypatch: pytest.MonkeyPatch) -> None:
    register(julia)
    monkeypatch.setattr(metadata, "version", lambda _: "1.2.4")
    assert "PythonCall 1.2.3 does not fit juliacall 1.2.4" in str(environment.readiness())


@pytest.mark.usefixtures("juliacall")
def test_torch_came_first(julia: Julia, monkeypatch: pytest.MonkeyPatch) -> None:
    register(julia)
    monkeypatch.setitem(sys.modules, "torch", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "juliacall", raising=False)
    assert "Use a new process" in str(environment.readiness())


@pytest.mark.usefixtures("juliacall")
def test_other_code_started_julia(julia: Julia, monkeypatch: pytest.MonkeyPatch) -> None:
    register(julia)
    theirs = types.ModuleType("juliacall")
    theirs.CONFIG = {"inited": True}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "juliacall", theirs)
    assert "other code has started Julia" in str(environment.readiness())
    monkeypatch.setattr(environment, "STARTED", {os.getpid()})
    assert environment.readiness() is None


def test_the_package_lies_in_the_checkout_or_in_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment.julia_package() == Path(__file__).parents[2] / "julia"
    inside = tmp_path / "pyflux_transfer" / "julia"
    inside.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(inside.parent / "a" / "b.py"))
    with pytest.raises(EngineError, match="Install pyflux-transfer again"):
        environment.julia_package()
    (inside / "Project.toml").touch()
    assert environment.julia_package() == inside


def test_the_variables_start_this_julia(julia: Julia) -> None:
    found = variables(julia)
    assert found["PYTHON_JULIACALL_EXE"] == julia.exe
    assert found["PYTHON_JULIACALL_PROJECT"] == julia.project
    assert found["PYTHON_JULIACALL_THREADS"] == "3"
    own, rest = found["JULIA_DEPOT_PATH"].split(os.pathsep)
    assert rest == "/depot"
    assert own == found["PYFLUX_DEPOT"] == str(depot.own(environment.julia_package()))
    assert found["A"] == "b"
    path = found["JULIA_LOAD_PATH"].split(os.pathsep)
    assert path == ["@", str(environment.julia_package()), "/somewhere", "@stdlib"]
    assert variables(Julia("julia", "."))["PYTHON_JULIACALL_THREADS"] == str(environment.cores())


def test_the_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    assert environment.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, cores in ((4, 4), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert environment.cores() == cores
