"""Compare the service with LitServe and a plain FastAPI handler under the same load.

    python benchmarks/serving.py BUNDLE [--rounds 6] [--targets ours,litserve,litserve2,plain]

Needs `pip install litserve`. The load comes from one process with bare asyncio sockets (a client
library would need more processor time than the services); it shares the cores with the service.
Closed loop: so many connections, each sends the next photo when it has the answer; what begins in
the first second, when all send at once, is not timed. Open loop: photos are sent at set times
whatever the service does, and the clock of each starts at its set time, so a service that falls
behind cannot hide it.

The services take turns in short windows. Shown are medians over the quiet windows, those in which
other programs used less than a fifth of a core ("others" tells how much). "cpu ms" is the processor
time a photo of all processes of a service, "busiest" that of its busiest process, "load" that of
the load generator, which takes it from the same cores. Of ours each kind of process is shown, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from measure import busy_s
from PIL import Image, ImageFilter

HERE = Path(__file__).parent
# What of a process's command line tells its role in our service.
_ROLES = {"serving.worker": "worker", "data.decoder": "decoding"}
CONCURRENCY = (1, 8, 64)
QUIET_CORES = 0.2
_ADOPT = 36  # PR_SET_CHILD_SUBREAPER: processes whose parent ends become ours
LEAD_S = 1.0


def photos(count: int = 24, width: int = 500, height: int = 375) -> list[bytes]:
    """Return JPEGs with about the bytes of real ones of that size."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = rng.integers(0, 255, (12, 16, 3), np.uint8)
        fine = rng.normal(0, 14, (height, width, 1))
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        mixed = np.clip(np.asarray(image) + fine, 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        smooth = Image.fromarray(mixed).filter(ImageFilter.GaussianBlur(0.7))
        smooth.save(stream, "JPEG", quality=88)
        made.append(stream.getvalue())
    return made


def requests(port: int) -> list[bytes]:
    """Return whole HTTP requests, a multipart form with one file each."""
    made = []
    for photo in photos():
        part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
        body = part + b"Content-Type: image/jpeg\r\n\r\n" + photo + b"\r\n--B--\r\n"
        head = (
            f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class Connection:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> int:
        """Send a request; return the status, 0 where the connection broke."""
        try:
            if self.writer is None:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            assert self.reader
            self.writer.write(request)
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await self.reader.readexactly(int(length[1]) if length else 0)
            if b"connection: close" in head.lower():
                self.close()
            return int(head.split(b" ", 2)[1])
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0

    def close(self) -> None:
        if self.writer:
            self.writer.close()
        self.reader = self.writer = None


Result = list[tuple[int, float, float]]  # status, beginning, end: seconds of the window


async def closed_loop(port: int, concurrency: int, seconds: float) -> Result:
    """Keep so many requests under way; the window begins when the clients are out of step."""
    made, found = requests(port), Result()
    start = time.perf_counter() + LEAD_S

    async def client(number: int) -> None:
        connection, turn = Connection(port), number
        while (began := time.perf_counter() - start) < seconds:
            status = await connection.ask(made[turn % len(made)])
            found.append((status, began, time.perf_counter() - start))
            turn += 1
        connection.close()

    await asyncio.gather(*(client(number) for number in range(concurrency)))
    return found


async def open_loop(port: int, rate: float, seconds: float) -> Result:
    made, found = requests(port), Result()
    rng = np.random.default_rng(1)
    gaps = rng.exponential(1 / rate, int(rate * seconds))
    free = [Connection(port) for _ in range(256)]
    start = time.perf_counter() + 0.1

    async def one(number: int, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        connection = free.pop() if free else Connection(port)
        status = await connection.ask(made[number % len(made)])
        found.append((status, at - start, time.perf_counter() - start))
        free.append(connection)

    await asyncio.gather(*(one(i, start + at) for i, at in enumerate(np.cumsum(gaps))))
    for connection in free:
        connection.close()
    return found


def summary(found: Result, seconds: float) -> dict[str, float]:
    """Count what ended within the window; time what began in it, ended or not."""
    statuses = [status for status, _, _ in found]
    within = sum(status == 200 and 0 <= end <= seconds for status, _, end in found)
    took = [1000 * (end - begin) for status, begin, end in found if status == 200 and begin >= 0]
    row = {"per_s": within / seconds, "refused": statuses.count(429)}
    row["errors"] = len(found) - statuses.count(200) - statuses.count(429)
    for name, share in (("p50_ms", 50), ("p99_ms", 99)):
        row[name] = float(np.percentile(took, share)) if took else float("nan")
    return row


# --- the services --------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Target:
    """One service in processes of its own."""

    def __init__(self, name: str, bundle: Path) -> None:
        self.name, self.port = name, free_port()
        ctypes.CDLL(None).prctl(_ADOPT, 1)
        program = [sys.executable, str(HERE / "serving_targets.py"), name, str(bundle)]
        self.log = Path(tempfile.gettempdir()) / f"benchmark-{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*program, str(self.port)], stderr=log, stdout=log, start_new_session=True
            )

    def __enter__(self) -> Target:
        ends = time.monotonic() + 120
        while asyncio.run(Connection(self.port).ask(requests(self.port)[0])) != 200:
            if self.process.poll() is not None or time.monotonic() > ends:
                self.__exit__()
                raise SystemExit(f"{self.name} does not start; see {self.log}")
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.go_on()
        # Its first process alone: once that has waited for the others, what they spent is known.
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(ChildProcessError):
            while True:  # those that it left behind
                os.waitpid(-self.process.pid, 0)

    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def roles(self) -> dict[int, str]:
        """Return what each process of ours does."""
        lines = {each.pid: " ".join(each.cmdline()) for each in self.family()}
        return {
            pid: next((role for part, role in _ROLES.items() if part in line), "web")
            for pid, line in lines.items()
        }

    def processor_s(self) -> dict[int, float]:
        """Return each process' processor time, which a busy machine does not stretch."""
        return {process.pid: sum(process.cpu_times()[:2]) for process in self.family()}

    def pause(self) -> None:
        """Stop it while another is measured: some services poll when they have nothing to do."""
        for process in self.family():
            process.suspend()

    def go_on(self) -> None:
        for process in self.family():
            process.resume()

    def sums(self) -> dict[str, float]:
        """Return the sums and counts of our own metrics."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics").read().decode()
        rows = re.findall(r"^pyflux_transfer_(\w+_(?:sum|count))(?:{[^}]*})? (\S+)$", text, re.M)
        return {name: float(value) for name, value in rows}


def stages(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return the mean milliseconds of a request's stages between two looks at the metrics."""
    spent = {name: after[name] - before.get(name, 0) for name in after}
    mean = {
        stage: 1000 * spent[f"{stage}_seconds_sum"] / max(spent[f"{stage}_seconds_count"], 1)
        for stage in ("decode", "queue")
    }
    images = max(spent["batch_size_sum"], 1)
    mean["compute an image"] = 1000 * spent["compute_seconds_sum"] / images
    mean["batch size"] = images / max(spent["batch_size_count"], 1)
    return mean


def window(target: Target, run: Callable[[int], Any], seconds: float) -> dict[str, float]:
    """Measure one target for a while."""
    before, all_before, began = target.processor_s(), busy_s(), time.perf_counter()
    mine = time.process_time()
    found = asyncio.run(run(target.port))
    row = summary(found, seconds)
    after = target.processor_s()
    count = max(sum(status == 200 for status, _, _ in found), 1)
    spent = [after[pid] - before.get(pid, 0) for pid in after]
    mine = time.process_time() - mine
    others = busy_s() - all_before - sum(spent) - mine
    by_role = dict.fromkeys(("web ms", "worker ms", "decoding ms"), 0.0)
    for pid, role in target.roles().items():
        by_role[f"{role} ms"] += 1000 * (after.get(pid, 0) - before.get(pid, 0)) / count
    return {
        **row,
        **by_role,
        "load_ms": 1000 * mine / count,
        "cpu_ms": 1000 * sum(spent) / count,
        "busiest_ms": 1000 * max(spent) / count,
        "others": others / (time.perf_counter() - began),
    }


def show(name: str, load: str, rows: list[dict[str, float]]) -> None:
    """Print the medians of the quiet windows, or of the quietest three where there are fewer."""
    rows = sorted(rows, key=lambda row: row["others"])
    quiet = [row for row in rows if row["others"] < QUIET_CORES]
    quiet = quiet if len(quiet) > 3 else rows[:3]
    columns = ("per_s", "p50_ms", "p99_ms", "refused", "errors", "cpu_ms", "busiest_ms", "load_ms",
               "others")  # fmt: skip
    values = [f"{np.median([row[key] for row in quiet]):8.1f}" for key in columns]
    print(f"{name:9} {load:10}", *values, f"{len(quiet):4}/{len(rows)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--targets", default="ours,litserve,litserve2,plain")
    parser.add_argument("--rate", type=float, default=0, help="open loop, photos a second")
    options = parser.parse_args()
    loads: list[tuple[str, Callable[[int], Any]]] = [
        (f"closed {c}", lambda port, c=c: closed_loop(port, c, options.seconds))
        for c in CONCURRENCY
    ]
    if options.rate:
        load = lambda port: open_loop(port, options.rate, options.seconds)  # noqa: E731
        loads.append((f"open {options.rate:g}/s", load))
    with contextlib.ExitStack() as running:
        targets = [
            running.enter_context(Target(name, options.bundle))
            for name in options.targets.split(",")
        ]
        for target in targets:
            asyncio.run(closed_loop(target.port, 8, 1.5))  # warm
            target.pause()
        titles = (
            "photos/s",
            "p50 ms",
            "p99 ms",
            "429",
            "errors",
            "cpu ms",
            "busiest",
            "load",
            "others",
        )
        print(f"{'target':9} {'load':10}", *(f"{title:>8}" for title in titles), " windows")
        for load, run in loads:
            compare(targets, load, run, options)


def compare(
    targets: list[Target], load: str, run: Callable[[int], Any], options: argparse.Namespace
) -> None:
    """Measure the targets in turns, so that what else the machine does meets all alike."""
    rows: dict[str, list[dict[str, float]]] = {target.name: [] for target in targets}
    sums: list[dict[str, float]] = []
    for _ in range(options.rounds):
        for target in targets:
            target.go_on()
            if target.name == "ours" and not sums:
                sums.append(target.sums())
            rows[target.name].append(window(target, run, options.seconds))
            if target.name == "ours":
                sums.append(target.sums())
            target.pause()
    for target in targets:
        show(target.name, load, rows[target.name])
        if target.name == "ours":
            parts = stages(sums[0], sums[-1])
            print("   of that, ms:", json.dumps({k: round(v, 2) for k, v in parts.items()}))
            kinds = ("web ms", "worker ms", "decoding ms")
            spent = {k: round(float(np.median([r[k] for r in rows["ours"]])), 2) for k in kinds}
            print("   processors, a photo:", json.dumps(spent))


if __name__ == "__main__":
    main()
