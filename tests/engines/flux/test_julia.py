"""Julia is started once, from anywhere, and its errors and signals become Python's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pyflux_transfer.engines.flux.julia import call
from pyflux_transfer.errors import EngineError, InputError

pytestmark = pytest.mark.flux


def run(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, **options
    )  # type: ignore[call-overload, no-any-return]


def test_errors_are_ours_and_hold_nothing_of_julia() -> None:
    with pytest.raises(EngineError, match="Julia: KeyError") as caught:
        call("name_of_device", -1)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    with pytest.raises(InputError, match="Julia: ArgumentError: weights lack 'a'"):
        call("check", {}, [("a", ())])


def test_only_one_thread_may_call() -> None:
    call("load_gpu")
    caught: list[BaseException] = []

    def work() -> None:
        try:
            call("load_gpu")
        except EngineError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "another thread" in str(caught[0])


def test_plain_values_come_back() -> None:
    lines = call("report")
    assert isinstance(lines, list)
    assert lines[0].startswith("Julia\t1.")
    assert call("load_gpu") in (True, False)


def test_torch_in_the_process_keeps_julia_out() -> None:
    done = run(
        "import torch\n"
        "from pyflux_transfer.engines import choose\n"
        "print(choose('auto'))\n"
        "from pyflux_transfer.engines.flux.julia import call\n"
        "call('report')\n"
    )
    assert "('torch'" in done.stdout
    assert "torch is loaded in this process" in done.stderr
    assert done.returncode == 1


def test_importing_the_engine_starts_nothing() -> None:
    done = run(
        "import sys, pyflux_transfer.engines.flux.network as flux\n"
        "assert flux.readiness() is None\n"
        "assert 'juliacall' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


def test_a_julia_that_cannot_start_is_told(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    julia = tmp_path / "julia"
    julia.write_text("#!/bin/sh\necho broken >&2\nexit 3\n", "utf-8")
    julia.chmod(0o755)
    config.write_text(
        f'{{"julia": {{"exe": "{julia}", "project": "{tmp_path}", "load_path": []}}}}', "utf-8"
    )
    done = run(
        "from pyflux_transfer.engines.flux.julia import call\ncall('report')\n",
        env={**os.environ, "PYFLUX_CONFIG": str(config)},
    )
    assert "EngineError: The flux engine cannot start" in done.stderr
    assert "pyflux-transfer setup" in done.stderr


INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from pyflux_transfer.engines.flux.julia import call
call("ceiling", n=64, repeats=1)
print("ready", flush=True)
try:
    while True:
        call("ceiling", n=1024, repeats=3)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(call("ceiling", n=64, repeats=1) > 0, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no POSIX signals")
def test_ctrl_c_ends_a_loop_of_julia_calls_in_an_orderly_way() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert rest.splitlines() == ["interrupted", "True"]
    assert process.returncode == 0


def test_the_julia_package_is_found_in_an_installed_wheel(tmp_path: Path) -> None:
    """A copy laid out as a wheel has it, imported from elsewhere."""
    import shutil

    root = Path(__file__).parents[3]
    shutil.copytree(root / "pyflux_transfer", tmp_path / "pyflux_transfer")
    shutil.copytree(root / "julia", tmp_path / "pyflux_transfer" / "julia")
    done = run(
        "from pyflux_transfer.installation import environment\n"
        "from pyflux_transfer.engines.flux.julia import call\n"
        "print(environment.julia_package())\n"
        "print(call('folder'))\n",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "pyflux_transfer" / "julia")] * 2
