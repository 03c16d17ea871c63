"""What the head's solver, `check`, `compare` and `export` take: a process of `commands`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import pyflux_transfer as pft
from benchmarks import export, measure, solver
from benchmarks.clocks import clocked
from pyflux_transfer.training.design import Standard
from pyflux_transfer.training.rows import Rows


def head(rounds: int) -> dict[str, Any]:
    """Time the path of heads beside scikit-learn's, on rows like a trunk's."""
    x, y = solver.made(1000, 1280, 10)
    folds = np.arange(len(y)) % solver.FOLDS
    z = Standard.of(Rows.of(x)).apply(x)
    own = partial(solver.ours, x, y, 10, folds)
    losses = np.array([strength.loss for strength in own().tried])
    tolerance, _, off = solver.agreeing(z, y, folds, "newton-cg", losses)
    peer = partial(solver.peers, z, y, folds, "newton-cg", tolerance)
    return {**solver.turns({"ours": own, "theirs": peer}, rounds), "off": off}


def check(folder: str, weights: str) -> dict[str, Any]:
    """Time a check beside what it cannot do without: reading the photos, a trunk pass."""
    net = pft.load("resnet18", weights=weights, engine="torch")
    net.network.embed(np.zeros((16, 3, 224, 224), np.float32))  # the first pass prepares it

    def own() -> None:
        pft.check(folder, "resnet18", weights=weights, engine="torch", cache=False)

    _, theirs = clocked(lambda: net.features(folder, cache=False))
    return {"theirs": theirs, "ours": clocked(own)[1]}


def compare(folder: str, weights: dict[str, str]) -> dict[str, Any]:
    """Time a comparison beside the trunk passes of its networks."""

    def passes() -> None:
        for name, file in weights.items():
            pft.load(name, weights=file, engine="torch").features(folder, cache=False)

    names = [f"{name}={file}" for name, file in weights.items()]
    _, theirs = clocked(passes)
    _, ours = clocked(lambda: pft.compare(folder, names, engine="torch", cache=False))
    return {"theirs": theirs, "ours": ours}


def exported() -> dict[str, Any]:
    """Compare an exported file's logits and speed with the engine's."""
    with tempfile.TemporaryDirectory() as folder:
        _, _, difference, _, ours, theirs, _ = export.row("resnet50", Path(folder))
    return {"difference": float(difference), "ours": float(ours), "theirs": float(theirs)}


_WORKS: dict[str, Callable[..., dict[str, Any]]] = {
    "head": head, "check": check, "compare": compare, "export": exported,
}  # fmt: skip


def main(what: str, **given: Any) -> None:
    """Do one of them and report."""
    measure.finish(**_WORKS[what](**given))


if __name__ == "__main__":
    main(**measure.arguments())
