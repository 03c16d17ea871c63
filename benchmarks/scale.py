"""What a million photos cost on many nodes: figures of this machine, and a simulation of others.

    python -m benchmarks.scale measure            # JSON: decode, embed, write, of one core here
    python -m benchmarks.scale simulate           # the table of docs/scale.md
    python -m benchmarks.scale simulate --photo-mb 3 --decode-ms 60 --store-gbps 10

A job is shares of 256 photos. A worker takes one from the driver, who hands out one after another;
fetches its photos from a store whose bandwidth all share, and each node's is its own; decodes and
embeds while it fetches; writes its part. Nodes die now and then: what their workers were at is done
again elsewhere. Times of shares scatter, so the last ones are waited for.
"""

from __future__ import annotations

import argparse
import heapq
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

SHARE = 256


@dataclass(frozen=True)
class World:
    """A cluster and a job; times in seconds, sizes in bytes, a photo unless said otherwise."""

    photos: int = 1_000_000
    nodes: int = 1
    cores: int = 16
    gpus: int = 0
    photo_bytes: float = 120e3
    record_bytes: float = 7.6e3  # features of 1280 numbers; 0.2e3 for predictions
    decode_s: float = 1.6e-3  # of one core
    embed_s: float = 6.1e-3  # of one core, or of one GPU where there are some
    store_bps: float = 2.5e9  # bytes a second of the store, for all
    node_bps: float = 1.25e9
    dispatch_s: float = 4e-3  # the driver, a share
    start_s: float = 15.0  # a worker: process, libraries, network
    life_s: float = 7 * 86400.0  # of a node, on average
    again_s: float = 120.0  # until a dead node is replaced
    spread: float = 0.15  # of a share's time, as a logarithm's deviation

    @property
    def workers(self) -> int:
        """Networks a cluster holds: one a GPU, else one a core."""
        return self.nodes * (self.gpus or self.cores)

    def compute_s(self) -> float:
        """Seconds a share takes a worker that waits for nothing."""
        if not self.gpus:
            return SHARE * (self.decode_s + self.embed_s)
        return SHARE * max(self.embed_s, self.decode_s * self.gpus / self.cores)


def bounds(world: World) -> dict[str, float]:
    """Return the photos a second that each part of a world could do, alone."""
    traffic = world.photo_bytes + world.record_bytes
    cores = world.nodes * world.cores
    own = {"processors": cores / (world.decode_s + world.embed_s)}
    if world.gpus:
        gpus = world.nodes * world.gpus
        own = {"decoding": cores / world.decode_s, "embedding": gpus / world.embed_s}
    return {
        **own,
        "nodes' network": world.nodes * world.node_bps / traffic,
        "the store": world.store_bps / traffic,
        "the driver": SHARE / world.dispatch_s,
        "the start": world.photos / world.start_s,
    }


def simulate(world: World, seed: int = 0) -> tuple[float, int]:
    """Return the seconds a job takes, and how many shares were done again."""
    rng = np.random.default_rng(seed)
    left = -(-world.photos // SHARE)
    traffic = SHARE * (world.photo_bytes + world.record_bytes)
    per_node = world.workers // world.nodes
    death = rng.exponential(world.life_s, world.nodes)  # when each node dies next
    driver = end = 0.0
    again = 0
    # A fair part of each bandwidth for all that work; who works at the end gets more, but little.
    busy = min(left, world.workers)
    fetch = traffic / min(world.store_bps / busy, world.node_bps / min(per_node, busy))
    free = [(world.start_s * rng.lognormal(0, 0.1), worker) for worker in range(world.workers)]
    heapq.heapify(free)
    while left:
        now, worker = heapq.heappop(free)
        node = worker // per_node
        driver = max(driver, now) + world.dispatch_s
        took = max(fetch, world.compute_s()) * rng.lognormal(0, world.spread)
        done = driver + took
        if death[node] < done:  # the share is lost with the node; another comes in its place
            back = max(death[node] + world.again_s, now) + world.start_s
            if death[node] + world.again_s < now:
                death[node] = now + rng.exponential(world.life_s)
            again += 1
            heapq.heappush(free, (back, worker))
            death[node] = back + rng.exponential(world.life_s)
            continue
        left -= 1
        end = max(end, done)
        heapq.heappush(free, (done, worker))
    return end, again


def table(base: World) -> None:
    """Print the job on 1, 10 and 100 nodes, of processors and of GPUs."""
    print("| nodes | workers | time | photos/s | efficiency | waits for | would allow |")
    print("|---|---|---|---|---|---|---|")
    for kind, world in (("16 cores", base), ("GPU + 16 cores", gpu(base))):
        first = 0.0
        for nodes in (1, 10, 100):
            one = replace(world, nodes=nodes)
            seconds, _ = simulate(one)
            rate = one.photos / seconds
            first = first or rate
            part, allows = min(bounds(one).items(), key=lambda item: item[1])
            print(
                f"| {nodes} × {kind} | {one.workers} | {_said(seconds)} | {rate:,.0f} | "
                f"{rate / first / nodes:.0%} | {part} | {allows:,.0f}/s |"
            )


def gpu(world: World) -> World:
    """The same with one GPU a node, which is assumed to embed 2,500 photos a second."""
    return replace(world, gpus=1, embed_s=1 / 2500)


def _said(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"


# --- figures of this machine ----------------------------------------------------------------------


def measure() -> dict[str, float]:
    """Measure one core: decode, embed, and how large what is written is.

    Run it with OMP_NUM_THREADS=1: processor time is counted, so that other work beside does less
    harm.
    """
    import pyflux_transfer as pft
    from pyflux_transfer.cluster.records import FORMS, Record
    from pyflux_transfer.data.preprocess import load
    from pyflux_transfer.networks.preprocessing import Preprocessing

    found: dict[str, float] = {}
    rng = np.random.default_rng(0)
    for name, size in (("0.3 MP", (640, 480)), ("12 MP", (4000, 3000))):
        small = rng.integers(0, 256, (size[1] // 16, size[0] // 16, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG")
        data = stream.getvalue()
        found[f"decode {name}, ms"] = 1000 * _time(partial(load, data, Preprocessing()))
        found[f"bytes {name}"] = len(data)
    for arch in ("efficientnet_lite0", "resnet50"):
        net = pft.load(arch, weights=None, engine="torch", precision="fp32")
        side = net.preprocessing.crop
        images = rng.standard_normal((16, 3, side, side), np.float32)
        found[f"embed {arch}, ms"] = 1000 * _time(partial(net.network.embed, images)) / 16
    rows = [
        Record(f"photos/{i:08}.jpg", "0" * 64, "cat", rng.random(1280, np.float32))
        for i in range(SHARE)
    ]
    meta = {"values": "features", "shape": [1280], "names": None}
    part = FORMS["parquet"].encode(rows, meta)
    found["features, bytes a photo"] = len(part) / SHARE
    found["write, ms a photo"] = 1000 * _time(partial(FORMS["parquet"].encode, rows, meta)) / SHARE
    return {name: round(value, 3) for name, value in found.items()}


def _time(work: Callable[[], object], times: int = 7) -> float:
    work()
    seconds = []
    for _ in range(times):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("measure", "simulate"))
    for name in ("photo-mb", "decode-ms", "embed-ms", "store-gbps"):
        parser.add_argument(f"--{name}", type=float)
    given = parser.parse_args()
    if given.what == "measure":
        print(json.dumps(measure(), indent=2))
        return
    changes = {
        "photo_bytes": given.photo_mb and given.photo_mb * 1e6,
        "decode_s": given.decode_ms and given.decode_ms / 1e3,
        "embed_s": given.embed_ms and given.embed_ms / 1e3,
        "store_bps": given.store_gbps and given.store_gbps * 1e9 / 8,
    }
    table(replace(World(), **{k: v for k, v in changes.items() if v is not None}))


if __name__ == "__main__":
    main()
