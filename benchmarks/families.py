"""Rows: one network of each family by our fastest way, beside the fastest of the others.

Measured by `benchmarks.engines`, which prints every way by itself; here they meet in one ratio.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks import engines
from benchmarks.setting import Setting
from benchmarks.table import Row, Task

# Kinds of `benchmarks.engines`, in which each runs in a process of its own.
OURS = {"fp32": {"torch": "torch-fp32", "onnx": "onnx"}, "auto": {"torch": "torch-auto"}}
PEERS = {"ONNX Runtime": "ort"}
_FEW = ("resnet50", "efficientnet_lite0", "mobilenet_v3_large", "convnext_tiny", "vit_b_32")
_AVX2 = ("resnet50", "efficientnet_lite0")

_UNLIMITED = "; ONNX Runtime knows no such limit and computes with all there is"

Found = dict[str, dict[str, float]]  # milliseconds an image, by name and batch


def tasks(setting: Setting) -> Iterator[Task]:
    """Yield what measures each family, and some with the instructions of older processors."""
    names = engines.NAMES if setting.full else _FEW[:1] if setting.tiny else _FEW
    batches = [1, 4, 16, 64] if setting.full else [1, 16]
    for name in names:
        yield partial(_rows, name, batches, "", {})
    for name in _AVX2[:1] if setting.tiny else _AVX2:
        yield partial(_rows, name, batches, ", AVX2", engines.AVX2)


def _rows(name: str, batches: list[int], what: str, limits: dict[str, str]) -> list[Row]:
    def found(kinds: dict[str, str]) -> Found:
        times = {
            shown: engines.measured(engines.sys.executable, kind, name, batches, limits)
            for shown, kind in kinds.items()
        }
        return {shown: {b: t[0] for b, t in each.items()} for shown, each in times.items() if each}

    theirs = found(PEERS)
    ours = {"fp32": found(OURS["fp32"])}
    # Nothing is emulated where the instructions are those of a processor without bfloat16.
    ours["auto"] = {**ours["fp32"], **({} if limits else found(OURS["auto"]))}
    return [
        _row(f"prediction, {name}, batch {batch}, {precision}{what}", ours[precision], theirs,
             str(batch))
        for batch in batches
        for precision in (("fp32",) if limits else ("fp32", "auto"))
    ]  # fmt: skip


def _row(name: str, ours: Found, theirs: Found, batch: str) -> Row:
    (our_way, our_ms), (their_way, their_ms) = (_fastest(each, batch) for each in (ours, theirs))
    others = ", ".join(f"{way} {times[batch]:.1f}" for way, times in ours.items())
    return Row(
        name, their_way, f"{our_ms:.1f} ms/image", f"{their_ms:.1f} ms/image", their_ms / our_ms,
        1.0, note=f"ours by {our_way}, of {others}{_UNLIMITED if 'AVX2' in name else ''}",
    )  # fmt: skip


def _fastest(found: Found, batch: str) -> tuple[str, float]:
    way = min(found, key=lambda each: found[each][batch])
    return way, found[way][batch]
