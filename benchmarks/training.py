"""Rows: training against the tutorial's loop, in time and memory, and its growth."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean

from benchmarks.measure import Cost
from benchmarks.setting import Setting
from benchmarks.table import Row, Task

MIB = 2**20
PEER = "tutorial loop, eager fp32, batch 4"


@dataclass(frozen=True)
class Work:
    """One training task on both sides."""

    name: str
    architecture: str
    cut: str  # ours
    stage: str | None  # that the peer trains beside the last layer
    epochs: int
    peer_epochs: int  # that are run and timed, unless all are asked for
    goal: float
    goal_fp32: float | None = None  # where the hardware has no bfloat16


_WORK = (
    Work("frozen trunk, ResNet-50", "resnet50", "head", None, 25, 3, 40.0),
    Work("frozen trunk, ResNet-18", "resnet18", "head", None, 25, 6, 25.0),
    Work("last stage, ResNet-50", "resnet50", "stage4", "layer4", 10, 3, 8.0, 5.0),
)


def tasks(setting: Setting) -> Iterator[Task]:
    """Yield what measures training."""
    for work in _WORK:
        yield partial(_trained, setting, work)
    yield partial(_whole_network, setting)


def _trained(setting: Setting, work: Work) -> list[Row]:
    ours = _ours(setting, setting.insects, work.architecture, work.cut, work.epochs)
    theirs = _theirs(setting, work, work.epochs if setting.full else work.peer_epochs)
    rows = [_time(setting, work, ours, theirs)]
    if work is _WORK[0]:
        rows += [_larger_batches(setting, work, ours, theirs), _memory(ours, theirs)]
    if work.goal_fp32 and ours.report["precision"] != "fp32":
        exact = _ours(setting, setting.insects, work.architecture, work.cut, work.epochs, "fp32")
        rows.append(_time(setting, replace(work, name=f"{work.name}, float32"), exact, theirs))
    return rows


def _whole_network(setting: Setting) -> list[Row]:
    """Measure the steps of one epoch beside plain PyTorch's, and beside its autocast."""
    batch, count = (2, 6) if setting.tiny else (32, 256)
    cost = setting.cold(
        "whole", photos=setting.folder / "images.npy", architecture="resnet50",
        weights=setting.weights("resnet50"), batch=batch, count=count,
    )  # fmt: skip
    wall, images = cost.report["wall"], cost.report["images"]
    peers = {"plain": "the same loop in plain PyTorch, float32",
             "autocast": "the same loop, autocast to bfloat16, channels last"}  # fmt: skip
    rows = []
    for ours, theirs, goal in (
        ("bf16", "plain", 2.0), ("fp32", "plain", 1.3), ("bf16", "autocast", None),
    ):  # fmt: skip
        if ours in wall and theirs in wall:
            each = (f"{1e3 * wall[side] / images:.1f} ms/image" for side in (ours, theirs))
            rows.append(Row(
                f"whole network, ResNet-50, one epoch, batch {batch}, {ours}", peers[theirs], *each,
                wall[theirs] / wall[ours], goal,
                note=f"{images} photos as arrays; the sides take turns at each batch",
            ))  # fmt: skip
    return rows


def _time(setting: Setting, work: Work, ours: Cost, theirs: Cost) -> Row:
    each = theirs.report["epoch_seconds"]
    images = sum(1 for _ in setting.insects.rglob("*.jpg"))
    spent = ours.report["seconds"]
    # What waits for images is waiting for the decoding threads, which share the cores.
    trunk = setting.share(
        images * setting.flops[work.architecture],
        spent["trunk"] + spent["decode"],
        ours.report["precision"],
    )
    notes = [
        f"{images} photos",
        f"accuracy {ours.report['accuracy']:.3f}, the peer's {theirs.report['accuracy']:.3f} "
        f"after {len(each)} epochs",
        "ours: " + ", ".join(f"{k} {v:.1f} s" for k, v in spent.items() if v >= 0.05),
        f"trunk with decoding {trunk}",
    ]
    if len(each) < work.epochs:
        notes.append(f"peer: {len(each)} epochs of {mean(each):.1f} s run, the rest reckoned alike")
    whole = _whole(theirs, work.epochs)
    exact = ours.report["precision"] == "fp32"
    goal = work.goal_fp32 if exact and work.goal_fp32 else work.goal
    return Row(
        f"{work.name}, {work.epochs} epochs, files to model", PEER, f"{ours.seconds:.1f} s",
        f"{whole:.0f} s", whole / ours.seconds, goal, note="; ".join(notes),
    )  # fmt: skip


def _whole(theirs: Cost, epochs: int) -> float:
    """Return the peer's seconds for all epochs: those that were not run take the mean of others."""
    each: list[float] = theirs.report["epoch_seconds"]
    return theirs.seconds + (epochs - len(each)) * mean(each)


def _larger_batches(setting: Setting, work: Work, ours: Cost, theirs: Cost) -> Row:
    """Give the peer batches of 32, which its authors do not use but which suit the processor."""
    larger = _theirs(setting, work, 1, batch=32)
    start = theirs.seconds - sum(theirs.report["epoch_seconds"])
    whole = start + work.epochs * larger.report["epoch_seconds"][0]
    return Row(
        f"{work.name}, as above", "tutorial loop with batches of 32", f"{ours.seconds:.1f} s",
        f"{whole:.0f} s", whole / ours.seconds, note="peer: one epoch run",
    )  # fmt: skip


def _memory(ours: Cost, theirs: Cost) -> Row:
    return Row(
        "memory of the first row: peak RSS", "the loop's main process, its loaders not counted",
        f"{ours.peak_bytes / MIB:.0f} MiB", f"{theirs.peak_bytes / MIB:.0f} MiB",
        ours.peak_bytes / theirs.peak_bytes, 1.0, at_most=True,
    )  # fmt: skip


@dataclass(frozen=True)
class Growth:
    """One training task on a few images and on many times as many."""

    name: str
    architecture: str
    cut: str
    solver: str
    few: int
    times: int
    size: int | None = None  # of an image, None for the network's own
    drawn: bool = False  # weights: drawn by us, or the file of the other rows


_GROWTH = (
    Growth("ResNet-18, last stage, 1 epoch", "resnet18", "stage4", "steps", 300, 10),
    Growth("ResNet-18, head solved", "resnet18", "head", "lbfgs", 300, 10),
)
# A hundred times as many, in a time that can be waited for: a small network on small images.
_LARGE = (
    Growth("MobileNetV3 at 64 pixels, last stage, 1 epoch", "mobilenet_v3_small", "block6", "steps",
           300, 100, 64, drawn=True),
    Growth("MobileNetV3 at 64 pixels, head solved", "mobilenet_v3_small", "head", "lbfgs",
           300, 100, 64, drawn=True),
)  # fmt: skip


def growth(setting: Setting) -> Iterator[Task]:
    """Yield what measures many times as many images, features on disk."""
    for each in (*_GROWTH, *(_LARGE if setting.full else ())):
        work = replace(each, few=each.few // 10) if setting.tiny else each
        yield partial(_growth, setting, work)


def _growth(setting: Setting, work: Growth) -> list[Row]:
    many = work.few * work.times
    costs = [_grown(setting, work, count) for count in (work.few, many)]
    seconds = [sum(cost.report["seconds"].values()) for cost in costs]
    peaks = [cost.peak_bytes for cost in costs]
    name = f"growth, {work.few} → {many:,} images, {work.name}"
    return [
        Row(
            f"{name}: time", "itself", f"{seconds[1]:.1f} s", f"{seconds[0]:.1f} s",
            seconds[1] / seconds[0], 1.05 * work.times, at_most=True,
            note="decode, trunk, tail and cache summed",
        ),
        Row(
            f"{name}: peak RSS", "itself", f"{peaks[1] / MIB:.0f} MiB",
            f"{peaks[0] / MIB:.0f} MiB", peaks[1] / peaks[0], 1.1, at_most=True,
            note="features on disk",
        ),
    ]  # fmt: skip


def _grown(setting: Setting, work: Growth, count: int) -> Cost:
    """Train on `count` different files: photos with a number behind the end of the picture."""
    photos = sorted(setting.insects.rglob("*.jpg"))
    folder = setting.folder / f"grown{count}"
    for index in range(count):
        photo = photos[index % len(photos)]
        split = "val" if index % 5 == 0 else "train"
        target = folder / split / photo.parent.name / f"{index:05}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(photo.read_bytes() + index.to_bytes(4, "big"))
    cost = setting.cold(
        "ours", folder=folder, architecture=work.architecture, cut=work.cut, epochs=1, cache=True,
        weights=None if work.drawn else setting.weights(work.architecture), solver=work.solver,
        size=work.size, out=setting.folder / "trained.safetensors",
    )  # fmt: skip
    shutil.rmtree(folder)
    return cost


def _ours(
    setting: Setting, photos: Path, architecture: str, cut: str, epochs: int,
    precision: str = "auto",
) -> Cost:  # fmt: skip
    return setting.cold(
        "ours", folder=photos, architecture=architecture, cut=cut, epochs=epochs,
        precision=precision,
        weights=setting.weights(architecture), out=setting.folder / "trained.safetensors",
    )  # fmt: skip


def _theirs(setting: Setting, work: Work, epochs: int, batch: int = 4) -> Cost:
    return setting.cold(
        "tutorial", folder=setting.insects, architecture=work.architecture, stage=work.stage,
        epochs=epochs, batch=batch, weights=setting.weights(work.architecture),
        out=setting.folder / "tutorial.pth",
    )  # fmt: skip
