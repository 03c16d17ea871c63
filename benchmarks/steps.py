"""Training steps of the flux engine beside plain Flux with Zygote and the torch engine in float32.

    python -m benchmarks.steps [--rounds 5] [--only "last stage"]

prints milliseconds an image and peak memory. Each side is a process of its own; they take their
steps in turn, so that what else the machine does meets all of them. Shown are the shortest of the
rounds, and the least processor time of all threads, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.flux.network import describe
from pyflux_transfer.installation import environment
from pyflux_transfer.networks.catalog import architecture
from pyflux_transfer.networks.head import Head

SIDES = ("ours", "plain Flux", "torch fp32")


@dataclass(frozen=True)
class Work:
    """What is trained, at which batch size."""

    name: str
    architecture: str
    stage: str  # the first that is trained
    batch: int


WORK = (
    Work("ResNet-50, last stage", "resnet50", "stage4", 32),
    Work("ResNet-50, whole network", "resnet50", "stem", 8),
    Work("EfficientNet-Lite0, whole network", "efficientnet_lite0", "stem", 16),
    Work("ResNet-18, last stage", "resnet18", "stage4", 32),
    Work("ResNet-18, last stage, one image", "resnet18", "stage4", 1),
)


class Worker:
    """A process that takes a step for every line it is sent."""

    def __init__(self, command: list[str], variables: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env={**os.environ, **variables}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def step(self) -> tuple[float, float]:
        """Take one step; return its seconds, by the clock and of all processors."""
        wall, busy = self._ask("step")
        return wall, busy

    def end(self) -> float:
        """End the process; return the most memory it held, in MiB."""
        (peak,) = self._ask("end")
        self.kill()
        return peak

    def kill(self) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def _ask(self, what: str) -> list[float]:
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(what + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        while line and not line.startswith("= "):
            line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise RuntimeError(f"{self._process.args} ended early, with status {status}.")
        return [float(word) for word in line.split()[1:]]


def workers(work: Work, plan: Path) -> dict[str, Worker]:
    julia = environment.registered()
    if julia is None:
        raise SystemExit(f"This needs a Julia: {environment.readiness()}")
    variables = environment.variables(julia)
    given = [work.stage, str(work.batch)]
    ours = [sys.executable, "-m", "benchmarks.steps_ours"]
    script = str(Path(__file__).with_suffix(".jl"))
    threads = f"--threads={variables['PYTHON_JULIACALL_THREADS']}"
    plain = [julia.exe, "--startup-file=no", f"--project={julia.project}", threads, script]
    return {
        "ours": Worker([*ours, "flux", work.architecture, *given], {}),
        "plain Flux": Worker([*plain, str(plan), *given], variables),
        "torch fp32": Worker([*ours, "torch", work.architecture, *given], {}),
    }


@contextlib.contextmanager
def started(work: Work) -> Iterator[dict[str, Worker]]:
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.toml"
        plan.write_text(describe(Plan(architecture(work.architecture), Head(3))), "utf-8")
        sides = workers(work, plan)
        try:
            yield sides
        finally:
            for worker in sides.values():
                worker.kill()


def measure(work: Work, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return for each side milliseconds an image, those of all processors, and peak MiB."""
    with started(work) as sides:
        for worker in sides.values():
            worker.step()  # compiles, allocates
        taken = [{name: worker.step() for name, worker in sides.items()} for _ in range(rounds)]
        each = 1000 / work.batch
        return {
            name: (
                each * min(row[name][0] for row in taken),
                each * min(row[name][1] for row in taken),
                worker.end(),
            )
            for name, worker in sides.items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(f"{'':<34}{'':<12}{'ms/image':>9}{'of all processors':>19}{'peak MiB':>10}")
    for work in WORK:
        if options.only not in work.name:
            continue
        found = measure(work, options.rounds)
        for name in SIDES:
            wall, busy, peak = found[name]
            print(f"{work.name:<34}{name:<12}{wall:>9.1f}{busy:>19.1f}{peak:>10.0f}")
        ours, plain, torch = (found[name] for name in SIDES)
        print(
            f"{'':<34}{plain[0] / ours[0]:.1f} times as fast as plain Flux "
            f"({plain[1] / ours[1]:.1f} by processor time), {ours[0] / torch[0]:.2f} of torch's "
            f"time ({ours[1] / torch[1]:.2f}), {ours[2] / torch[2]:.2f} of its memory",
            flush=True,
        )


if __name__ == "__main__":
    main()
