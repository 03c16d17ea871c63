"""Rows: the head's solver, `check`, `compare` and `export`; their goals are those of their own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.setting import Setting
from benchmarks.table import Row, Task

_ALIKE = 1e-4  # share of the largest by which an exported file's logits may differ


def tasks(setting: Setting) -> Iterator[Task]:
    """Yield what measures each of them."""
    for measured in (_head, _check, _compare, _export):
        yield partial(measured, setting)


def _head(setting: Setting) -> list[Row]:
    found = _found(setting, "head", rounds=1 if setting.tiny else 3)
    return [
        Row(
            "head: eight strengths, five folds, 1,000 × 1,280, 10 classes",
            "LogisticRegressionCV, newton-cg", f"{found['ours']:.2f} s", f"{found['theirs']:.2f} s",
            found["theirs"] / found["ours"], 10.0,
            note=f"log losses differ by {found['off']:.0e} at most",
        )
    ]  # fmt: skip


def _check(setting: Setting) -> list[Row]:
    photos = setting.insects / "train"
    found = _found(setting, "check", folder=photos, weights=setting.weights("resnet18"))
    return [
        Row(
            f"`check`, {sum(1 for _ in photos.rglob('*.jpg'))} photos, ResNet-18",
            "reading them, one trunk pass", f"{found['ours']:.2f} s", f"{found['theirs']:.2f} s",
            found["ours"] / found["theirs"], 1.2, at_most=True,
        )
    ]  # fmt: skip


def _compare(setting: Setting) -> list[Row]:
    photos = setting.insects / "train"
    weights = {name: setting.weights(name) for name in ("resnet18", "resnet50")}
    found = _found(setting, "compare", folder=photos, weights=weights)
    return [
        Row(
            f"`compare`, ResNet-18 and ResNet-50, {sum(1 for _ in photos.rglob('*.jpg'))} photos",
            "reading them, each trunk pass", f"{found['ours']:.2f} s", f"{found['theirs']:.2f} s",
            found["ours"] / found["theirs"],
        )
    ]  # fmt: skip


def _export(setting: Setting) -> list[Row]:
    found = _found(setting, "export")
    return [
        Row(
            "`export`, ResNet-50: difference of logits", "a share of the largest",
            f"{found['difference']:.0e}", f"{_ALIKE:.0e}", found["difference"] / _ALIKE, 1.0,
            at_most=True,
            note=f"one image, one thread: the torch engine in float32 {found['ours']:.1f} ms, the "
            f"file by ONNX Runtime {found['theirs']:.1f} ms",
        )
    ]  # fmt: skip


def _found(setting: Setting, what: str, **given: Any) -> dict[str, Any]:
    return setting.cold("commands_ours", what=what, **given).report
