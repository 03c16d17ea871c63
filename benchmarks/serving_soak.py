"""Send an hour's worth of mixed requests in minutes, and watch the memory of every process.

    python benchmarks/serving_soak.py BUNDLE [--requests 36000]

An hour at ten requests a second is 36,000. One in ten is bad in some way, one in a hundred is left
by its client before the answer.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from pathlib import Path

import psutil
from serving import Connection, Target, photos

HEAD = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"


def request(kind: str, body: bytes) -> bytes:
    return HEAD.format(kind, len(body)).encode() + body


def form(*files: bytes) -> bytes:
    part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    body = b"".join(part + file + b"\r\n" for file in files) + b"--B--\r\n"
    return request("multipart/form-data; boundary=B", body)


def mixture() -> list[bytes]:
    """Return a hundred requests, ten of them bad."""
    good = photos(12, 160, 120)
    many = [request("image/jpeg", photo) for photo in good] * 6
    many += [form(*good[:count]) for count in (1, 2, 4) * 6]
    many += [request("image/jpeg", photo[: len(photo) // 2]) for photo in good[:4]]
    many += [
        request("image/jpeg", b"no image"),
        request("text/plain", b"x"),
        request("application/json", b"[" * 50_000),
        form(*[b""] * 40),
        form(good[0], b"broken"),
        request("image/png", bytes(11_000_000)),
    ]
    return many


async def client(port: int, number: int, clients: int, total: int, seen: Counter[int]) -> None:
    made, connection = mixture(), Connection(port)
    for turn in range(number, total, clients):
        if turn % 100 == 50:
            await leave(port, made[0])
            seen[499] += 1
            continue
        seen[await connection.ask(made[turn * 37 % len(made)])] += 1
    connection.close()


async def leave(port: int, whole: bytes) -> None:
    """Send a request and go."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(whole)
    await writer.drain()
    writer.close()


def megabytes(pid: int) -> list[str]:
    parent = psutil.Process(pid)
    return [
        f"{process.memory_info().rss / 1e6:.0f} MB, {process.num_fds()} files"
        for process in [parent, *parent.children()]
    ]


async def soak(target: Target, total: int, clients: int = 8) -> None:
    seen: Counter[int] = Counter()
    began, done = time.monotonic(), 0
    for step in (total // 36, *[total // 12] * 11, total - total // 36 - total // 12 * 11):
        await asyncio.gather(*(client(target.port, n, clients, step, seen) for n in range(clients)))
        done += step
        web, *workers = megabytes(target.process.pid)
        print(f"{done:6} requests, {time.monotonic() - began:4.0f} s: web {web}; worker {workers}")
    print(dict(sorted(seen.items())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=36_000)
    options = parser.parse_args()
    with Target("ours", options.bundle) as target:
        asyncio.run(soak(target, options.requests))


if __name__ == "__main__":
    main()
