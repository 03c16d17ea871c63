"""Rows: prediction from arrays, from files, decoding alone, and the cold start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import measure
from benchmarks.setting import Setting
from benchmarks.table import Row, Task

# batch → peer → goal
_GOALS = {16: {"eager": 4.0, "onnx": 2.4}, 1: {"eager": None, "onnx": 1.3}}
_NAMES = {"eager": "PyTorch eager fp32", "onnx": "ONNX Runtime fp32"}
_ROUNDS = 2  # processes of each kind, taking turns; the best counts


def bundle(setting: Setting) -> Path:
    """Train the ResNet-50 that predicts; once a run."""
    target = setting.folder / "predicting.safetensors"
    if not target.exists():
        setting.cold(
            "ours", folder=setting.insects, architecture="resnet50", cut="head", epochs=1,
            solver="lbfgs", weights=setting.weights("resnet50"), out=target,
        )  # fmt: skip
    return target


def arrays(setting: Setting) -> Iterator[Task]:
    """Yield what measures batches of preprocessed images."""
    yield lambda: list(_arrays(setting))


def _arrays(setting: Setting) -> Iterator[Row]:
    seconds = 0.2 if setting.tiny else 4.0
    best: dict[str, dict[str, float]] = {kind: {} for kind in ("ours", "eager", "onnx")}
    precision = "fp32"
    for kind in [*best] * _ROUNDS:
        report = setting.cold(
            "predictors", what="arrays", kind=kind, bundle=bundle(setting), seconds=seconds,
            images=setting.folder / "images.npy", out=setting.folder / f"{kind}.npy",
        ).report  # fmt: skip
        for batch, value in report["seconds_an_image"].items():
            best[kind][batch] = min(value, best[kind].get(batch, value))
        if kind == "ours":
            precision = report["precision"]
    for batch, goals in _GOALS.items():
        ours = best["ours"][str(batch)]
        for kind, goal in goals.items():
            theirs = best[kind][str(batch)]
            note = f"{setting.share(setting.flops['resnet50'], ours, precision)}, peer "
            note += setting.share(setting.flops["resnet50"], theirs, "fp32")
            if batch == 16:
                note += f"; {_agreement(setting.folder, 'ours', kind)}"
            yield Row(
                f"prediction, ResNet-50, batch {batch}", _NAMES[kind],
                f"{1000 * ours:.1f} ms/image", f"{1000 * theirs:.1f} ms/image",
                theirs / ours, goal, note=note,
            )  # fmt: skip


def _agreement(folder: Path, ours: str, theirs: str) -> str:
    """Compare two files of probabilities."""
    a, b = (np.load(folder / f"{name}.npy") for name in (ours, theirs))
    same = (a.argmax(1) == b.argmax(1)).mean()
    return f"top-1 equal on {same:.1%} of {len(a)}, largest difference {abs(a - b).max():.4f}"


def files(setting: Setting) -> Iterator[Task]:
    """Yield what measures a folder of large photos, whole processes."""
    yield lambda: list(_files(setting))


def _files(setting: Setting) -> Iterator[Row]:
    costs = {
        kind: setting.cold(
            "predictors", what="files", kind=kind, bundle=bundle(setting), folder=setting.large,
            out=setting.folder / f"files-{kind}.npy",
        )
        for kind in ("ours", "eager")
    }  # fmt: skip
    ours, theirs = costs["ours"].seconds, costs["eager"].seconds
    count = sum(1 for _ in setting.large.rglob("*.jpg"))
    agreement = _agreement(setting.folder, "files-ours", "files-eager")
    yield Row(
        f"files to predictions, {count} photos of 1–12 megapixels", "DataLoader, 2 workers, eager",
        f"{ours:.1f} s", f"{theirs:.1f} s", theirs / ours, 3.0,
        note=f"start and loading included; {agreement}",
    )  # fmt: skip


def decoding(setting: Setting) -> Iterator[Task]:
    """Yield what measures decoding and preprocessing alone."""
    yield partial(_decoded, setting, "500 × 375, exact", setting.insects, 1.8)
    yield partial(_decoded, setting, "1–12 megapixels, scaled", setting.large, 3.0)


def _decoded(setting: Setting, name: str, folder: Path, goal: float) -> list[Row]:
    found = setting.cold("decoders", folder=folder).report
    row = Row(
        f"decoding and preprocessing, {name}", "Pillow, one thread",
        f"{1000 * found['ours']:.1f} ms/photo", f"{1000 * found['pillow']:.1f} ms/photo",
        found["pillow"] / found["ours"], goal,
        note=f"of 255 levels, mean difference {found['mean']:.2f}, 99.9 % within "
        f"{found['most']:.1f}, largest {found['largest']:.1f}",
    )  # fmt: skip
    return [row]


def cold_start(setting: Setting) -> Iterator[Task]:
    """Yield what measures the command line on one photo against a short script, taking turns."""
    yield lambda: list(_cold_start(setting))


def _cold_start(setting: Setting) -> Iterator[Row]:
    photo = next(setting.insects.rglob("*.jpg"))
    program = Path(sys.executable).with_name("pyflux-transfer")
    commands = {
        "ours": [program, "predict", bundle(setting), photo, "--engine", "onnx"],
        "script": [sys.executable, "-m", "benchmarks.coldstart", bundle(setting), photo],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(1 if setting.tiny else 6):
        for name, command in commands.items():
            times[name].append(command_s(setting, command))
    ours, theirs = min(times["ours"]), min(times["script"])
    yield Row(
        "cold start: `predict` of one photo, ResNet-50", "a short PyTorch script", f"{ours:.2f} s",
        f"{theirs:.2f} s", ours / theirs, 0.5, at_most=True,
    )  # fmt: skip


def command_s(setting: Setting, command: list[object]) -> float:
    """Return the seconds of a command, process start included, that keeps what it finds."""
    start = time.perf_counter()
    subprocess.run(
        [str(word) for word in command], cwd=measure.ROOT, check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "PYFLUX_CACHE": str(setting.folder)},
    )  # fmt: skip
    return time.perf_counter() - start
