"""How often bfloat16 names the same class as float32, on a labelled folder.

    python -m benchmarks.agreement BUNDLE FOLDER

A bundle trained from published weights says more than the random trunks of the other rows: there
the classes lie so close together that any rounding decides between them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import pyflux_transfer as pft
from pyflux_transfer.engines.base import Precision
from pyflux_transfer.networks.tensors import Array


def probabilities(bundle: Path, files: list[Path], precision: Precision) -> Array:
    """Return each file's probabilities (N,classes)."""
    model = pft.load(bundle, engine="torch", precision=precision)
    found = model.predict(files, top=len(model.classes))
    return np.array([[dict(row.top)[name] for name in model.classes] for row in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    files = sorted(file for file in options.folder.rglob("*") if file.is_file())
    exact, ours = (probabilities(options.bundle, files, p) for p in ("fp32", "bf16"))
    same = (exact.argmax(1) == ours.argmax(1)).mean()
    print(f"{len(files)} images: the same class for {same:.1%}", end="; ")
    print(f"the largest difference of a probability is {np.abs(exact - ours).max():.3f}")


if __name__ == "__main__":
    main()
