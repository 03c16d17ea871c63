"""Each installation compiles for itself; what is left of others is removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyflux_transfer.installation import depot as module
from pyflux_transfer.installation.depot import own, path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYFLUX_DEPOTS", str(tmp_path / "depots"))
    return tmp_path / "depots"


def package(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_it_comes_before_the_users(tmp_path: Path, cache: Path) -> None:
    one = package(tmp_path / "one")
    depot = own(one)
    assert depot.parent == cache
    assert path(one, "/a") == os.pathsep.join([str(depot), "/a"])
    assert depot.is_dir()
    # An empty entry stands for Julia's default.
    assert path(one, "") == str(depot) + os.pathsep
    # What a process made of the variable, its children take as it is.
    assert path(one, path(one, "/a")) == path(one, "/a")
    assert path(one, path(one, "")) == path(one, "")


def test_it_lies_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYFLUX_DEPOTS")
    monkeypatch.setenv("PYFLUX_CACHE", str(tmp_path))
    assert own(tmp_path).parent == tmp_path / "julia"


def test_each_place_and_version_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = package(tmp_path / "one"), package(tmp_path / "two")
    first = own(one)
    assert own(one) == first != own(two)
    assert path(two, path(one, "/a")) == os.pathsep.join([str(own(two)), "/a"])
    monkeypatch.setattr(module, "__version__", "99")
    assert own(one) != first


def test_what_is_left_of_others_is_removed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, here, strange = package(tmp_path / "gone"), package(tmp_path / "here"), cache / "strange"
    path(gone, "")
    path(here, "")
    strange.mkdir()
    old = own(here)
    gone.rmdir()
    monkeypatch.setattr(module, "__version__", "99")
    path(here, "")
    assert {each.name for each in cache.iterdir()} == {own(here).name, "strange"}
    assert not old.exists()


def test_a_cache_that_cannot_be_written_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PYFLUX_DEPOTS", str(tmp_path / "file"))
    assert path(tmp_path, "/a") == "/a"


def test_a_wait_is_foretold_where_the_package_changed_since_it_was_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYFLUX_DEPOTS", str(tmp_path / "depots"))
    source = tmp_path / "julia" / "src" / "PyFluxTransfer.jl"
    made = tmp_path / "depot" / "compiled" / "v1.10" / "PyFluxTransfer" / "a.ji"
    for file in (source, made, tmp_path / "julia" / "Project.toml"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    variables = {"JULIA_DEPOT_PATH": os.pathsep.join(["", str(tmp_path / "depot")])}
    os.utime(made, (2e9, 2e9))
    assert module.compiled(tmp_path / "julia", variables)
    os.utime(source, (3e9, 3e9))
    assert not module.compiled(tmp_path / "julia", variables)
    assert not module.compiled(tmp_path / "julia", {})
    os.utime(source, (1e9, 1e9))
    own(tmp_path / "julia").mkdir(parents=True)  # where nothing is compiled yet
    assert not module.compiled(tmp_path / "julia", variables)
