"""Break the service under load with a real bundle, and tell what its clients saw.

    python benchmarks/serving_faults.py BUNDLE

Each fault meets a fresh service with eight clients that each send a photo as soon as they have the
answer to the one before. "good again" counts from the fault to the first right answer after the
last wrong one.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from serving import Connection, free_port, requests

CLIENTS = 8
BEFORE_S, AFTER_S = 1.0, 12.0
Seen = list[tuple[float, int]]  # when, status; 0: no connection


class Service:
    """`pyflux-transfer serve` in a process of its own."""

    def __init__(self, bundle: Path, *options: str) -> None:
        self.bundle, self.port = bundle, free_port()
        program = [sys.executable, "-m", "pyflux_transfer", "serve", str(bundle)]
        self.process = subprocess.Popen(
            [*program, "--port", str(self.port), "--engine", "torch", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        photo = requests(self.port)[0]
        while asyncio.run(Connection(self.port).ask(photo)) != 200:
            assert self.process.poll() is None, "the service does not start"
            time.sleep(0.1)

    def worker(self) -> psutil.Process:
        return psutil.Process(self.process.pid).children()[0]


def kill(service: Service) -> None:
    service.worker().kill()


def freeze(service: Service) -> None:
    service.worker().suspend()


def reload(service: Service) -> None:
    service.bundle.touch()
    service.process.send_signal(signal.SIGHUP)


def terminate(service: Service) -> None:
    service.process.send_signal(signal.SIGTERM)


def nothing(_: Service) -> None:
    pass


FAULTS: tuple[tuple[str, Callable[[Service], None], tuple[str, ...], int], ...] = (
    ("kill -9 of the worker", kill, (), CLIENTS),
    ("worker hangs, --deadline-s 2", freeze, ("--deadline-s", "2"), CLIENTS),
    ("64 clients, --queue 32", nothing, ("--queue", "32"), 64),
    ("SIGHUP, new bundle", reload, (), CLIENTS),
    ("SIGTERM", terminate, (), CLIENTS),
)


async def load(service: Service, clients: int, fault: Callable[[Service], None]) -> Seen:
    seen, made = Seen(), requests(service.port)
    began = time.monotonic()

    async def client(number: int) -> None:
        connection = Connection(service.port)
        while time.monotonic() < began + BEFORE_S + AFTER_S:
            status = await connection.ask(made[number % len(made)])
            seen.append((time.monotonic() - began - BEFORE_S, status))
            if status == 0 and service.process.poll() is not None:
                break
            if status != 200:
                await asyncio.sleep(0.05)

    async def disturb() -> None:
        await asyncio.sleep(BEFORE_S)
        fault(service)

    await asyncio.gather(disturb(), *(client(number) for number in range(clients)))
    return seen


def tell(name: str, seen: Seen, ended: str, lasting: bool) -> None:
    wrong = [when for when, status in seen if status != 200 and when > 0]
    good = [when for when, status in seen if status == 200]
    after = [when for when in good if wrong and when > wrong[-1]]
    counts = Counter("refused" if status == 0 else str(status) for _, status in seen)
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(counts.items()))
    first = f"{wrong[0]:.2f} s" if wrong else "-"
    again = f"{min(after):.2f} s" if after and not lasting else "-"
    print(f"{name:30} {answers:42} {first:>9} {again:>10}  {ended}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    bundle = parser.parse_args().bundle
    print(f"{'fault':30} {'answers':42} {'first bad':>9} {'good again':>10}  exit")
    for name, fault, options, clients in FAULTS:
        service = Service(bundle, *options)
        seen = asyncio.run(load(service, clients, fault))
        ended = "" if service.process.poll() is None else str(service.process.returncode)
        service.process.terminate()
        service.process.wait()
        tell(name, seen, ended, lasting=fault is nothing)


if __name__ == "__main__":
    main()
