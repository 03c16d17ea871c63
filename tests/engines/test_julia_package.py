"""The Julia package's own tests, in Julia alone."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from pyflux_transfer.installation import environment

pytestmark = pytest.mark.flux


@pytest.mark.timeout(900)
def test_julias_own_tests_pass() -> None:
    julia = environment.registered()
    assert julia is not None
    tests = Path(__file__).parents[2] / "julia" / "test" / "runtests.jl"
    done = subprocess.run(
        [julia.exe, "--startup-file=no", f"--project={julia.project}", "--threads=2", str(tests)],
        env={**os.environ, **environment.variables(julia)},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    passed = re.search(r"PyFluxTransfer +\| +(\d+) ", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 150
