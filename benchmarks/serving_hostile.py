"""Send good requests among hostile ones: is every good one answered, and is anything left?

    python benchmarks/serving_hostile.py BUNDLE [--requests 20000]

Of a thousand requests 900 are good, 85 bad, 12 are bombs that a header gives away, and 3 are legal
pictures of 50 megapixels in some hundred kilobytes. Good answers are compared with the first one
for the same photo. Beside them /livez is asked all the time. Told are the wrong answers, the worst
wait for /livez, the most memory of each kind of process, and what is left at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import signal
import struct
import time
import urllib.request
import zlib
from collections import Counter
from pathlib import Path

import psutil
from PIL import Image
from serving import photos
from serving_faults import Service
from serving_soak import form, mixture, request

CLIENTS = 16
EXPECTED_REFUSALS = {400, 413, 415, 422}


def png(width: int, height: int, channels: int) -> bytes:
    """Return a picture of zeros, compressed a row at a time."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    packer = zlib.compressobj(9)
    row = bytes(1 + channels * width)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    whole = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + whole


def passes(count: int) -> bytes:
    """Return a progressive JPEG with so many empty passes."""
    stream = io.BytesIO()
    Image.new("L", (4000, 4000), 90).save(stream, "JPEG", progressive=True, quality=10)
    data = stream.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def tiled() -> bytes:
    """Return a small TIFF with one tile of 500 megapixels."""
    tags = [(256, 100), (257, 100), (258, 8), (259, 1), (262, 1), (322, 32768), (323, 16000)]
    tags += [(324, 134), (325, 100)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + 100)


def bombs() -> list[bytes]:
    """Return requests that are refused by what their bodies promise."""
    ones = b'{"images":[' + b"1," * 5_000_000 + b"1]}"
    return [
        request("image/jpeg", passes(500)),
        request("image/png", png(1, 50_000_000 // 1000, 3)[:5000].ljust(100_000, b"x")),
        request("image/png", png(100_000, 1, 3)),
        request("image/tiff", tiled()),
        request("application/json", ones[: 10 * 2**20 - 3] + b"1]}"),
        form(*[b"x"] * 5000),
    ]


async def ask(port: int, whole: bytes) -> tuple[int, bytes]:
    """Send a request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(whole)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head.split(b" ", 2)[1]), await reader.readexactly(length)
    finally:
        writer.close()


class Watch:
    """The worst wait for /livez, and the most memory of each kind of process."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.worst_s = 0.0
        self.most: Counter[str] = Counter()

    async def probe(self) -> None:
        while True:
            began = time.monotonic()
            await ask(self.service.port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            self.worst_s = max(self.worst_s, time.monotonic() - began)
            self.weigh()
            await asyncio.sleep(0.05)

    def weigh(self) -> None:
        now: Counter[str] = Counter()
        web = psutil.Process(self.service.process.pid)
        for process in (web, *web.children()):
            try:
                decodes = any("data.decoder" in word for word in process.cmdline())
                kind = "web" if process == web else "decoding" if decodes else "computing"
                now[kind] += process.memory_info().rss >> 20
            except psutil.Error:
                continue
        for kind, size in now.items():
            self.most[kind] = max(self.most[kind], size)


async def soak(service: Service, total: int) -> None:
    good = [request("image/jpeg", photo) for photo in photos(24, 320, 240)]
    right = [(await ask(service.port, each))[1] for each in good]
    giants = [request("image/png", png(7071, 7071, channels)) for channels in (3, 4)]
    bad, bomb = mixture()[-10:], bombs()
    watch, seen, wrong = Watch(service), Counter[str](), []
    probing = asyncio.create_task(watch.probe())
    turns = iter(range(total))

    async def client() -> None:
        for turn in turns:
            kind = random.Random(turn).randrange(1000)
            if kind < 900:
                place = turn % len(good)
                status, body = await ask(service.port, good[place])
                seen[f"good {status}"] += 1
                if status != 200 or not equal(body, right[place]):
                    wrong.append((turn, status, body[:200]))
                continue
            name, choice = ("giant", giants) if kind < 903 else ("bomb", bomb)
            name, choice = ("bad", bad) if kind >= 915 else (name, choice)
            try:
                status, _ = await ask(service.port, choice[turn % len(choice)])
            except (OSError, asyncio.IncompleteReadError):
                status = 0  # refused before it was sent
            seen[f"{name} {status}"] += 1

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    print(f"{total} requests in {time.monotonic() - began:.0f} s: {dict(sorted(seen.items()))}")
    probing.cancel()
    print(f"good ones answered wrongly: {len(wrong)} {wrong[:3]}")
    print(f"worst wait for /livez {watch.worst_s:.2f} s; most MB {dict(watch.most)}")


def equal(one: bytes, other: bytes) -> bool:
    """Compare labels and probabilities: batches may differ in the last digits."""
    a, b = (json.loads(body)["predictions"][0] for body in (one, other))
    return a["label"] == b["label"] and abs(a["probability"] - b["probability"]) < 2e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args()
    service = Service(options.bundle, "--log-level", "warning")
    web = psutil.Process(service.process.pid)
    asyncio.run(soak(service, options.requests))
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics").read().decode()
    depth = [line for line in metrics.splitlines() if "queue_depth " in line][-1]
    children = web.children()
    print(f"left: {depth}, {web.num_fds()} files, {len(children)} processes")
    service.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    status = service.process.wait(40)
    alive = [child.pid for child in children if child.is_running()]
    print(f"SIGTERM: status {status} after {time.monotonic() - began:.1f} s, alive {alive}")


if __name__ == "__main__":
    main()
