"""Setting Julia up: each thing that can be wrong is told in one line, quickly."""

from __future__ import annotations

import ast
import importlib
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from pyflux_transfer.errors import EngineError
from pyflux_transfer.installation import setup as module
from pyflux_transfer.installation.environment import Julia, registered
from pyflux_transfer.installation.setup import better_kernels, setup


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is registered outside the test, juliacall is version 1.2.3, data has a folder."""
    monkeypatch.setenv("PYFLUX_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("PYFLUX_DEPOTS", str(tmp_path / "depots"))
    monkeypatch.setattr(metadata, "version", lambda _: "1.2.3")
    monkeypatch.setattr(module, "user_data_path", lambda *_, **__: tmp_path / "data")


def julia(folder: Path, version: str = "julia version 1.11.2", probe: str = "") -> Path:
    """An executable that answers --version, and `probe` to any other question."""
    exe = folder / "julia"
    exe.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) echo "{version}";; *) {probe or "true"};; esac\n',
        "utf-8",
    )
    exe.chmod(0o755)
    return exe


def lines(*arguments: object, **options: object) -> list[str]:
    return list(setup(*arguments, **options))  # type: ignore[arg-type]


def test_juliacall_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(EngineError, match=r"pip install 'pyflux-transfer\[flux\]'"):
        lines()


def test_no_such_executable(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="There is no Julia at"):
        lines(tmp_path / "nothing", project=tmp_path)


def test_no_such_project(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"is no folder\. Give --project"):
        lines(julia(tmp_path), project=tmp_path / "nothing")


def test_the_default_project_is_julias_own(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"project {tmp_path}/shared is no folder"):
        lines(julia(tmp_path, probe=f"printf {tmp_path}/shared"))


def test_something_that_is_no_julia(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not a Julia: it answers 'Python 3'"):
        lines(julia(tmp_path, "Python 3"), project=tmp_path)


def test_another_program_is_told_from_a_julia() -> None:
    with pytest.raises(
        EngineError, match=r"is not a Julia: it answers 'Python 3\.\S+' to --version"
    ):
        lines(sys.executable)


def test_a_program_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not a Julia: it answers 'nothing'"):
        lines(julia(tmp_path, ""), project=tmp_path)


def test_a_julia_that_is_too_old(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"Julia 1\.6\.7 is too old: 1\.10 or newer"):
        lines(julia(tmp_path, "julia version 1.6.7"), project=tmp_path)


def test_packages_are_missing(tmp_path: Path) -> None:
    exe = julia(tmp_path, probe='echo "PythonCall missing"; echo "missing Flux"')
    with pytest.raises(EngineError, match=r'lacks PythonCall, Flux.*add\(\["PythonCall", "Flux"'):
        lines(exe, project=tmp_path)


def test_pythoncall_of_another_version(tmp_path: Path) -> None:
    exe = julia(tmp_path, probe='echo "PythonCall 1.2.4"')
    with pytest.raises(EngineError, match=r"PythonCall 1\.2\.4 .* pip install juliacall==1\.2\.4"):
        lines(exe, project=tmp_path)


def test_a_julia_that_fails_says_why(tmp_path: Path) -> None:
    exe = julia(tmp_path, probe='echo "ERROR: disk on fire" >&2; exit 1')
    with pytest.raises(EngineError, match="disk on fire"):
        lines(exe, project=tmp_path)


def test_nothing_is_registered_when_the_trial_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exe = julia(tmp_path, probe='echo "PythonCall 1.2.3"')
    monkeypatch.setattr(module, "_SMOKE", "raise RuntimeError('no luck')")
    with pytest.raises(EngineError, match=r"trial run failed \(exit 1\): RuntimeError: no luck"):
        lines(exe, project=tmp_path)
    assert registered() is None


def test_a_julia_that_works_is_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exe = julia(tmp_path, probe='echo "PythonCall 1.2.3"')
    code = "print('built'); print('report', '[\"BLAS kernels\\\\tPrescott\"]')"
    monkeypatch.setattr(module, "_SMOKE", code)
    monkeypatch.setattr(module, "better_kernels", lambda _: "Haswell")
    told = lines(exe, project=tmp_path, load_path=["/p"], depot="/d", threads=2, env={"A": "b"})
    assert told[0].startswith("Julia 1.11.2 at ")
    assert "built" in told
    assert "OpenBLAS runs on Prescott kernels: setting Haswell" in told
    assert told[-1] == f"registered in {tmp_path / 'config.json'}"
    found = registered()
    assert found is not None
    assert (found.exe, found.project, found.depot) == (str(exe), str(tmp_path), "/d")
    assert (found.load_path, found.threads, found.pythoncall) == (("/p",), 2, "1.2.3")
    assert found.env == {"A": "b", "OPENBLAS_CORETYPE": "Haswell"}


def test_a_system_image_is_made_and_tried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exe = julia(tmp_path, probe='echo "PythonCall 1.2.3"')
    monkeypatch.setattr(module, "_SMOKE", "print('built'); print('report', '[]')")
    image = tmp_path / "made.so"
    monkeypatch.setattr(module.image, "file", lambda *_: image)
    monkeypatch.setattr(
        module.image, "command", lambda *_: [sys.executable, "-c", f"open({str(image)!r}, 'w')"]
    )
    told = lines(exe, project=tmp_path, sysimage=True)
    assert told.count("built") == 2
    assert registered() == replace(registered_plainly(exe, tmp_path), sysimage=True)
    told = lines(exe, project=tmp_path, sysimage=True)
    assert f"the system image is there: {image}" in told


def test_an_image_that_was_not_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exe = julia(tmp_path, probe='echo "PythonCall 1.2.3"')
    monkeypatch.setattr(module, "_SMOKE", "print('report', '[]')")
    monkeypatch.setattr(module.image, "file", lambda *_: tmp_path / "made.so")
    for code, told in (("", "was not made"), ("raise OSError('no disk')", "OSError: no disk")):
        command = [sys.executable, "-c", code]
        monkeypatch.setattr(module.image, "command", lambda *_, command=command: command)
        with pytest.raises(EngineError, match=told):
            lines(exe, project=tmp_path, sysimage=True)
        assert registered() is None


def registered_plainly(exe: Path, project: Path) -> Julia:
    return Julia(str(exe), str(project), pythoncall="1.2.3")


def test_no_network_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JULIA_PKG_SERVER", "http://127.0.0.1:9")
    with pytest.raises(
        EngineError, match=r"No network: http://127\.0\.0\.1:9 .* setup --julia EXE"
    ):
        lines()


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page"
    page.touch()
    monkeypatch.setenv("JULIA_PKG_SERVER", page.as_uri())


@pytest.mark.usefixtures("online")
def test_no_write_permission(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(EngineError, match=r"Cannot write to .*data/julia: .*XDG_DATA_HOME"):
        lines()


@pytest.mark.usefixtures("online")
def test_a_failed_resolve_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RESOLVE", "print('resolving'); raise OSError('no space')")
    steps = setup()
    assert next(steps) == "resolving"
    with pytest.raises(EngineError, match=r"Resolving the Julia packages failed .*no space"):
        list(steps)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("gpu", [False, True])
def test_what_juliapkg_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    exe = julia(tmp_path, probe='echo "PythonCall 1.2.3"')
    code = (
        "import json, os, sys\n"
        "names = [row['name'] for row in json.loads(sys.argv[1])]\n"
        "print(*names, os.environ['PYTHON_JULIAPKG_PROJECT'])\n"
        f"print('ready', json.dumps([{str(exe)!r}, {str(tmp_path)!r}]))"
    )
    monkeypatch.setattr(module, "_RESOLVE", code)
    monkeypatch.setattr(module, "_SMOKE", "")
    names = "PyFluxTransfer CUDA cuDNN" if gpu else "PyFluxTransfer"
    assert lines(gpu=gpu)[0] == f"{names} {tmp_path / 'data' / 'julia'}"
    found = registered()
    assert found is not None
    assert found.exe == str(exe)


def test_a_hung_step_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exe = julia(tmp_path, probe='echo "PythonCall 1.2.3"')
    monkeypatch.setattr(module, "_SMOKE", "import time; time.sleep(60)")
    monkeypatch.setattr(module, "SILENCE_S", 0.3)
    with pytest.raises(EngineError, match="trial run failed"):
        lines(exe, project=tmp_path)


def test_leaving_early_ends_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exe = julia(tmp_path, probe='echo "PythonCall 1.2.3"')
    pid = tmp_path / "pid"
    code = (
        f"import os, time, pathlib; pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
        "print('working', flush=True); time.sleep(60)"
    )
    monkeypatch.setattr(module, "_SMOKE", code)
    steps = setup(exe, tmp_path)
    while next(steps) != "working":
        pass
    steps.close()  # type: ignore[attr-defined]
    if sys.platform == "linux":
        assert not Path(f"/proc/{pid.read_text('utf-8')}").exists()


def test_kernels_of_an_old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def flags(text: str) -> None:
        monkeypatch.setattr(Path, "read_text", lambda *_: text)

    flags("flags : avx2 avx512f avx512bw avx512dq avx512vl")
    assert better_kernels("Prescott") == "SkylakeX"
    assert better_kernels("SkylakeX") == ""
    # They are well on AVX2 alone, and use half of these vectors.
    assert better_kernels("Haswell") == better_kernels("Zen") == "SkylakeX"
    flags("flags : avx2")
    assert better_kernels("prescott") == "Haswell"
    assert better_kernels("Haswell") == ""
    flags("flags : sse")
    assert better_kernels("Prescott") == ""

    def missing(*_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert better_kernels("Prescott") == ""


def test_the_trial_run_imports_what_there_is() -> None:
    for node in ast.walk(ast.parse(module._SMOKE)):
        if isinstance(node, ast.ImportFrom):
            found = importlib.import_module(str(node.module))
            for name in node.names:
                if not hasattr(found, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
