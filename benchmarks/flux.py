"""Rows: the flux engine beside plain Flux and the torch engine; none without a registered Julia."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import prediction, steps, trunk
from benchmarks.setting import Setting
from benchmarks.table import Row, Task
from pyflux_transfer.installation import environment

_TRUNKS = ("resnet50", "efficientnet_lite0")
_RESNETS = ("resnet", "resnext", "wide_resnet")
_START_S, _IMAGE_S = 6.0, 4.0  # of one photo, without and with a system image


def tasks(setting: Setting) -> Iterator[Task]:
    """Yield what measures trunks, steps and the start."""
    julia = environment.registered()
    if julia is None:
        yield lambda: [Row("flux engine", "–", "–", "–", None, note="no Julia is registered")]
        return
    rounds = 1 if setting.tiny else 3
    names = trunk.FAMILIES if setting.full else _TRUNKS
    yield partial(_trunks, names, rounds)
    for work in steps.WORK if setting.full else steps.WORK[:1]:
        yield partial(_steps, work, rounds)
    yield partial(_start, setting, rounds, _IMAGE_S if julia.sysimage else _START_S)


def _trunks(names: tuple[str, ...], rounds: int) -> list[Row]:
    found = trunk.measure(names, 4, rounds)
    _, ceiling, kernels = next(found)
    note = f"float32, batches of 4; OpenBLAS reaches {float(ceiling):.0f} GFLOP/s, {kernels}"
    return [
        Row(
            f"flux: trunk, {name}", "the same layers as Flux calls them",
            f"{float(ours):.1f} ms/image", f"{float(plain):.1f} ms/image",
            float(plain) / float(ours), 3.0 if name.startswith(_RESNETS) else 1.5, note=note,
        )
        for name, plain, _, ours, _, _ in found
    ]  # fmt: skip


def _steps(work: steps.Work, rounds: int) -> list[Row]:
    found = steps.measure(work, rounds)
    ours, plain, torch = (found[side] for side in steps.SIDES)
    name = f"flux: step, {work.name}, batch {work.batch}"
    each = f"{ours[0]:.1f} ms/image"
    return [
        Row(name, "plain Flux with Zygote", each, f"{plain[0]:.1f} ms/image", plain[0] / ours[0],
            2.0),
        Row(f"{name}: time", "the torch engine, float32", each, f"{torch[0]:.1f} ms/image",
            ours[0] / torch[0], 1.5, at_most=True),
        Row(f"{name}: peak memory", "the torch engine, float32", f"{ours[2]:.0f} MiB",
            f"{torch[2]:.0f} MiB", ours[2] / torch[2], 1.5, at_most=True),
    ]  # fmt: skip


def _start(setting: Setting, rounds: int, limit_s: float) -> list[Row]:
    """Measure `predict` of one photo, process start included."""
    program = Path(sys.executable).with_name("pyflux-transfer")
    photo = next(setting.insects.rglob("*.jpg"))
    command = [program, "predict", prediction.bundle(setting), photo, "--engine", "flux"]
    # The first may compile.
    shortest = min(prediction.command_s(setting, command) for _ in range(rounds + 1))
    return [
        Row("flux: `predict` of one photo, ResNet-50", "a limit", f"{shortest:.1f} s",
            f"{limit_s:.0f} s", shortest / limit_s, 1.0, at_most=True)
    ]  # fmt: skip
