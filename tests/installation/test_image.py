"""The system image is used while it fits what is installed, and made by one command."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyflux_transfer.errors import EngineError
from pyflux_transfer.installation import environment, image
from pyflux_transfer.installation.doctor import julia_checks
from pyflux_transfer.installation.environment import Julia, variables


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Julia package of one file; nothing is written outside the test."""
    monkeypatch.setenv("PYFLUX_DEPOTS", str(tmp_path / "depots"))
    package = tmp_path / "package"
    (package / "src").mkdir(parents=True)
    (package / "Project.toml").write_text("name = 'P'", "utf-8")
    (package / "src" / "P.jl").write_text("module P end", "utf-8")
    monkeypatch.setattr(environment, "julia_package", lambda: package)


@pytest.fixture
def julia(tmp_path: Path) -> Julia:
    exe = tmp_path / "julia"
    exe.write_text("#!/bin/sh\n", "utf-8")
    exe.chmod(0o755)
    return Julia(str(exe), str(tmp_path), sysimage=True)


def made(julia: Julia) -> Path:
    """Put an image where that of this Julia belongs."""
    image.file.cache_clear()
    place = environment.system_image(julia)
    assert place is not None
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    return place


def start(julia: Julia) -> str | None:
    """Return the image that this Julia would be started with."""
    image.file.cache_clear()
    return variables(julia).get("PYTHON_JULIACALL_SYSIMAGE")


def test_it_is_used_where_it_is_asked_for_and_there(julia: Julia) -> None:
    assert start(julia) is None
    place = made(julia)
    assert start(julia) == str(place)
    assert start(Julia(julia.exe, julia.project)) is None


@pytest.mark.parametrize("changed", ["package/src/P.jl", "package/Project.toml", "Manifest.toml"])
def test_it_is_left_alone_once_something_changed(
    julia: Julia, tmp_path: Path, changed: str
) -> None:
    made(julia)
    (tmp_path / changed).write_text("something else", "utf-8")
    assert start(julia) is None
    row = next(row for row in julia_checks(julia) if row.name == "Julia system image")
    assert not row.ok
    assert row.remedy == "Run: pyflux-transfer setup --sysimage"


def test_the_doctor_names_it(julia: Julia) -> None:
    place = made(julia)
    row = next(row for row in julia_checks(julia) if row.name == "Julia system image")
    assert (row.ok, row.value) == (True, str(place))


def test_images_that_do_not_fit_are_deleted(
    julia: Julia, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JULIA_CC", "cc")
    place = made(julia)
    (tmp_path / "package" / "src" / "P.jl").write_text("module P; 1; end", "utf-8")
    image.file.cache_clear()
    command = image.command(julia.exe, julia.project, tmp_path / "package")
    assert not place.exists()
    assert command[-2:] == [str(environment.system_image(julia)), julia.project]


def test_a_compiler_is_needed(
    julia: Julia, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JULIA_CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"C compiler.*leave --sysimage out"):
        image.command(julia.exe, julia.project, tmp_path / "package")


def test_the_script_is_with_the_package() -> None:
    assert (Path(__file__).parents[2] / "julia" / "sysimage.jl").is_file()
