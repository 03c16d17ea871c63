"""What the networks of torchvision and timm were found to compute: tests/engines/fixtures.

`make test-peers` with PYFLUX_RECORD=1 writes a file a row; weights and images are those of
`seeded`. Only NumPy is imported, so that every engine's tests can read it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.engines.seeded import Array

FIXTURES = Path(__file__).parent / "fixtures"

LARGEST = 100_000_000  # parameters of what the ordinary suite can compute
_KEPT = 8  # logits of each image


def recording(logits: dict[str, Array]) -> str:
    """Return as JSON the first logits by "library side", and the largest of all."""
    rows = {
        what: {
            "largest": float(np.abs(values).max()),
            "logits": [[float(x) for x in row[:_KEPT]] for row in values],
        }
        for what, values in logits.items()
    }
    return json.dumps(rows, indent=1) + "\n"


def recorded(name: str) -> list[tuple[int, float, Array]]:
    """Return for each size of images the side, the largest logit and the first of both images."""
    rows = json.loads((FIXTURES / f"{name}.json").read_text("utf-8"))
    return [
        (int(what.split()[1]), row["largest"], np.array(row["logits"], np.float32))
        for what, row in rows.items()
    ]


def names() -> list[str]:
    """Return the rows that were recorded."""
    return sorted(file.stem for file in FIXTURES.glob("*.json"))
