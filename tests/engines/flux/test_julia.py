"""Julia is started once, from anywhere, and its errors and signals become Python's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
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


def test_any_thread_may_call() -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = [pool.submit(call, "folder") for _ in range(8)]
        broken = pool.submit(call, "name_of_device", -1)
        assert {each.result() for each in folders} == {call("folder")}
        with pytest.raises(EngineError, match="Julia: KeyError"):
            broken.result()


FROM_THREADS = """
import gc, threading
import numpy as np
from pyflux_transfer.engines.base import Plan, Update
from pyflux_transfer.engines.flux import network as flux
from pyflux_transfer.networks.catalog import architecture
from pyflux_transfer.networks.head import Head

def work():
    # Started here, in a thread that ends; dropped by whoever collects.
    network = flux.build(Plan(architecture("squeezenet1_1"), Head(2), seed=1))
    network.cut_at(len(network.units) - 1)
    x = network.embed(np.ones((2, 3, 64, 64), np.float32))
    network.prepare(Update())
    found.append((network, x, network.step(x, np.array([0, 1]), {"head": 1e-3})))

found = []
for _ in range(2):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
assert found[0][2] == found[1][2]
np.testing.assert_array_equal(found[0][1], found[1][1])
network = found[0][0]
np.testing.assert_array_equal(network.embed(np.ones((2, 3, 64, 64), np.float32)), found[0][1])
try:
    network.apply(np.ones((1, 7, 64, 64), np.float32), 0, 1)
except Exception as error:
    print(type(error).__name__)
del network
found.clear()
gc.collect()
print("well", flush=True)
"""


def test_threads_that_end_leave_julia_running_and_the_process_ends_well() -> None:
    done = run(FROM_THREADS)
    assert done.stdout.splitlines() == ["InputError", "well"], done.stderr
    assert done.returncode == 0, done.stderr
    assert "signal" not in done.stderr


def test_other_threads_go_on_while_julia_computes() -> None:
    counted, done = 0, threading.Event()

    def compute() -> None:
        call("ceiling", n=2048, repeats=3)
        done.set()

    call("ceiling", n=64, repeats=1)
    thread = threading.Thread(target=compute)
    thread.start()
    while not done.wait(0.001):
        counted += 1
    thread.join()
    assert counted > 3


def test_julia_that_other_code_started_is_left_alone() -> None:
    done = run(
        "import os\n"
        "from pyflux_transfer.installation import environment\n"
        "julia = environment.registered()\n"
        "os.environ.update(environment.variables(julia))\n"
        "import juliacall\n"
        "from pyflux_transfer.engines import choose\n"
        "print(choose('auto'))\n"
    )
    assert "other code has started Julia" in done.stdout, done.stderr


def test_reading_the_input_still_waits_once_julia_runs() -> None:
    code = (
        "import os\n"
        "from pyflux_transfer.engines.flux.julia import call\n"
        "call('folder')\n"
        "print(os.get_blocking(0), input())\n"
    )
    done = run(code, input="a line\n")
    assert done.stdout == "True a line\n", done.stderr


def test_plain_values_come_back() -> None:
    lines = call("report")
    assert isinstance(lines, list)
    assert lines[0].startswith("Julia\t1.")
    assert call("load_gpu") in (True, False)


def test_numbers_that_json_has_not_come_back() -> None:
    assert call("log", 0.0) == -np.inf


def test_an_array_in_another_order_is_refused() -> None:
    with pytest.raises(TypeError, match="Julia cannot be given ndarray"):
        call("address", np.ones((2, 3), np.float32))


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
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from pyflux_transfer.engines.flux.julia import call
call("ceiling", n=64, repeats=1)
print("ready", flush=True)
try:
    call("ceiling", n=2048, repeats=1000)
except KeyboardInterrupt:
    print("interrupted", flush=True)
{then}
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no POSIX signals")
@pytest.mark.parametrize(
    ("repeats", "then", "said", "status"),
    [
        (20, 'print(call("ceiling", n=64, repeats=1) > 0, flush=True)', ["True"], 0),
        (10**6, "from pyflux_transfer.engines.flux import julia; julia._END_S = 0.5", [], 130),
    ],
    ids=["the next call waits", "the process ends"],
)
def test_ctrl_c_is_heard_during_a_call(
    repeats: int, then: str, said: list[str], status: int
) -> None:
    code = INTERRUPTED.replace("1000", str(repeats)).replace("{then}", then)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert rest.splitlines() == ["interrupted", *said], told
    assert process.returncode == status, told


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
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYFLUX_DEPOTS": str(tmp_path / "depots")},
    )
    assert done.returncode == 0, done.stderr
    assert "Compiling the Julia package, once" in done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "pyflux_transfer" / "julia")] * 2
