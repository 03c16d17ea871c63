"""Rows: the service under 64 clients, beside LitServe and beside what nothing could exceed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

from benchmarks.setting import Setting
from benchmarks.table import Row, Task

_NETWORKS = {"EfficientNet-Lite0": "efficientnet_lite0", "ResNet-50": "resnet50"}


def tasks(setting: Setting) -> Iterator[Task]:
    """Yield what measures the service with each network; in a full run with both."""
    for name in _NETWORKS if setting.full else ["EfficientNet-Lite0"]:
        yield partial(_rows, setting, name)


def _rows(setting: Setting, name: str) -> list[Row]:
    peers = ["litserve"] if find_spec("litserve") else []
    rounds, seconds = (1, 1.0) if setting.tiny else (3, 4.0)
    report = setting.cold(
        "serving_row", architecture=_NETWORKS[name], folder=setting.folder,
        targets=["ours", *peers], rounds=rounds, seconds=seconds,
    ).report  # fmt: skip
    found, cores = report["found"], len(os.sched_getaffinity(0))
    ours, alone, together = found["ours"]["64"], report["alone"], report["together"]
    # The load generator takes its time from the same cores, and no service could give it back.
    load = ours["load_ms"]
    most = 1000 * cores / (sum(alone) + load)
    note = (
        f"processor ms a photo: web {ours['web ms']:.2f}, worker {ours['worker ms']:.2f}, decoding "
        f"{ours['decoding ms']:.2f}, load generator {load:.2f} (which leaves "
        f"{sum(alone) / (sum(alone) + load):.0%}); each alone: network {alone[0]:.2f}, decoding "
        f"{alone[1]:.2f}, {1000 * cores / sum(alone):.0f} photos/s without a generator; both at a "
        f"time: {together[0]:.2f} and {together[1]:.2f}. By processor time the service reaches "
        f"{(sum(alone) + load) / (ours['cpu_ms'] + load):.0%} of each alone, "
        f"{(sum(together) + load) / (ours['cpu_ms'] + load):.0%} of both at a time"
    )
    rows = [
        Row(
            f"service, {name}, 64 clients", "network, decoder and load generator alone",
            f"{ours['per_s']:.0f} photos/s", f"{most:.0f} photos/s", ours["per_s"] / most, 0.95,
            note=note,
        )
    ]  # fmt: skip
    for peer in peers:
        theirs = found[peer]
        rows += [
            Row(
                f"service, {name}, 64 clients: throughput", "LitServe",
                f"{ours['per_s']:.0f} photos/s", f"{theirs['64']['per_s']:.0f} photos/s",
                ours["per_s"] / theirs["64"]["per_s"], 1.5,
                note=f"processor ms a photo: {ours['cpu_ms']:.2f} beside "
                f"{theirs['64']['cpu_ms']:.2f}",
            ),
            Row(
                f"service, {name}, 64 clients: p99", "LitServe", f"{ours['p99_ms']:.0f} ms",
                f"{theirs['64']['p99_ms']:.0f} ms", ours["p99_ms"] / theirs["64"]["p99_ms"], 1.0,
                at_most=True,
            ),
            Row(
                f"service, {name}, a lone photo: p50", "LitServe",
                f"{found['ours']['1']['p50_ms']:.1f} ms", f"{theirs['1']['p50_ms']:.1f} ms",
                found["ours"]["1"]["p50_ms"] / theirs["1"]["p50_ms"], 1.0, at_most=True,
            ),
        ]  # fmt: skip
    return rows
