"""Other systems, simulated: every module can be imported where POSIX is missing, and works.

In a process of its own, what Windows or macOS lack is hidden before the package is imported. Other
libraries come first: they are this system's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer import storage
from pyflux_transfer.data import apart
from pyflux_transfer.errors import ServiceError
from tests.test_imports import MODULES

# What the standard library lacks there: modules, and attributes of modules.
LACKING = {
    "win32": {
        "": ("fcntl", "grp", "pwd", "resource", "termios", "uvloop"),
        "os": (
            "O_CLOEXEC", "O_NOFOLLOW", "WNOHANG", "fork", "getpgid", "getuid",
            "geteuid", "killpg", "memfd_create", "MFD_CLOEXEC", "pread", "pwrite",
            "register_at_fork", "sched_getaffinity", "setsid", "waitid",
        ),
        "select": ("poll", "POLLIN"),
        "signal": ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "pthread_sigmask", "setitimer"),
    },
    "darwin": {"os": ("MFD_CLOEXEC", "memfd_create", "sched_getaffinity", "posix_fadvise")},
}  # fmt: skip
# What a process that Windows never starts consists of.
ELSEWHERE = {"win32": {"data.decoder"}, "darwin": set[str]()}

HIDE = """
import importlib, sys
for name in ("numpy", "PIL.Image", "rich.progress", "typer", "fastapi", "uvicorn", "uvloop",
             "httpx", "safetensors.numpy", "filelock", "platformdirs", "threadpoolctl", "torch",
             "prometheus_client", "pydantic_settings", "python_multipart", "subprocess", "jinja2",
             "multiprocessing", "joblib", "tempfile", "asyncio", "concurrent.futures"):
    importlib.import_module(name)
for module, names in LACKING.items():
    for name in names:
        if not module:
            sys.modules[name] = None
        elif hasattr(sys.modules.get(module) or importlib.import_module(module), name):
            delattr(sys.modules[module], name)
sys.platform = SYSTEM
"""


def run_as(system: str, code: str, *flags: str, folder: Path | None = None) -> str:
    """Run code in a process that believes to be on another system; return what it printed."""
    begin = f"SYSTEM = {system!r}\nLACKING = {LACKING[system]!r}\n" + HIDE
    done = subprocess.run(
        [sys.executable, *flags, "-c", begin + textwrap.dedent(code)],
        capture_output=True, text=True, check=False, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("system", LACKING)
def test_every_module_can_be_imported(system: str) -> None:
    names = [
        "pyflux_transfer" if module == "__init__" else f"pyflux_transfer.{module}"
        for module in MODULES
        if module != "__main__" and module not in ELSEWHERE[system]
    ]
    code = f"""
    for name in {[name.removesuffix(".__init__") for name in names]!r}:
        try:
            importlib.import_module(name)
        except Exception as error:
            print(name, type(error).__name__, error)
    """
    assert run_as(system, code) == ""


@pytest.mark.slow
@pytest.mark.parametrize("system", LACKING)
def test_a_model_is_trained_saved_and_asked(system: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, colour in (("ants", 60), ("bees", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(4):
            pixels = np.clip(rng.normal(colour, 25, (48, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.jpg")
    code = """
    import pyflux_transfer as pft
    net = pft.load("resnet18", weights=None, device="cpu", engine="torch")
    model = net.with_head(["ants", "bees"])
    model.fit("photos", epochs=1)
    model.save("model.safetensors")
    model = pft.load("model.safetensors", engine="torch")
    print(model.predict("photos/bees/0.jpg", top=1)[0].label)
    """
    said = run_as(system, code, folder=tmp_path)
    assert said.split()[-1] in ("ants", "bees")


def test_on_windows_the_service_says_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyflux_transfer.serving import server, settings

    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ServiceError, match="On Windows, use WSL or a container"):
        server.run(settings.settings(bundle="model.safetensors"))


def test_on_windows_photos_are_decoded_by_the_process_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not apart.possible()


def test_where_signals_end_processes_none_is_asked_whether_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fork")

    def kill(*_: int) -> None:
        raise AssertionError("os.kill(process, 0) ends a process on Windows")

    monkeypatch.setattr(os, "kill", kill)
    left = tmp_path / f".a.txt.{storage.platform.node()[:32]}.1.abcdefgh"
    left.touch()
    with storage.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new", "utf-8")
    assert (tmp_path / "a.txt").read_text("utf-8") == "new"
    assert left.exists()  # it is young, so it may be somebody's


def test_a_file_that_another_program_holds_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to replace a file that is open."""
    (tmp_path / "a.txt").write_text("old", "utf-8")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with (
        pytest.raises(storage.StorageError, match="Access is denied"),
        storage.replacing(tmp_path / "a.txt") as temporary,
    ):
        temporary.write_text("new", "utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text("utf-8") == "old"


def test_text_is_read_and_written_in_utf_8_whatever_the_system_s_own_is() -> None:
    """What opens a text file without an encoding warns with this flag, as in PEP 597."""
    code = """
    from pyflux_transfer.networks import catalog
    from pyflux_transfer.cli import app
    """
    assert (
        run_as("darwin", code, "-X", "warn_default_encoding", "-W", "error::EncodingWarning") == ""
    )
