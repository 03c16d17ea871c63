"""Which precision evaluates a network faster on this machine: measured once, and kept.

No flag of the processor tells: where bfloat16 is emulated it takes up to three times as long, and
where the hardware has it the gain goes from nothing to a half of the time, by the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pyflux_transfer.engines.torch.convolution import channels_last
from pyflux_transfer.engines.torch.fast import FastRunner
from pyflux_transfer.engines.torch.kinds import Block, forward
from pyflux_transfer.engines.torch.same import noise
from pyflux_transfer.engines.torch.threads import alone
from pyflux_transfer.networks.shapes import trace
from pyflux_transfer.networks.tensors import Shape
from pyflux_transfer.storage import cache_folder

GAIN = 1.05  # for less, float32 keeps its digits
BOUND_S = 0.03  # when so much is spent, no further unit is measured
KEPT = 256  # choices on the disk

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_RUNS = 3

Seconds = dict[str, float]  # by precision

_known: dict[str, Seconds] = {}


def gains(found: Seconds) -> bool:
    """Tell whether bfloat16 is so much faster that it is worth its rounding."""
    return found["fp32"] > GAIN * found["bf16"]


def measured(blocks: Sequence[Block], tensors: Mapping[str, Tensor], side: int) -> Seconds:
    """Return the seconds that units of a network take in each precision, for one image.

    The units lie all over the network, as many as fit into BOUND_S and at least one; images are
    `side` pixels wide. It is one thread's own time: other programs hardly change it.
    """
    shapes = [unit.input for unit in trace([b.unit for b in blocks], (1, 3, side, side))]
    # Dense layers on vectors are computed in float32 always.
    asked = [i for i, block in enumerate(blocks) if block.steps and len(shapes[i]) > 2]
    runners = {name: FastRunner(tensors, dtype) for name, dtype in _DTYPES.items()}

    @torch.inference_mode()
    def measure() -> Seconds:
        began, spent = time.thread_time(), dict.fromkeys(_DTYPES, 0.0)
        for place in _spread(len(asked)):
            block, shape = blocks[asked[place]], shapes[asked[place]]
            for name, runner in runners.items():
                spent[name] += _shortest(runner, block, shape)
            if time.thread_time() - began > BOUND_S:
                break
        return spent

    return alone(measure)


def _spread(count: int) -> list[int]:
    """Return 0 to count - 1 so that the first of them lie all over the range: bits reversed."""
    return sorted(range(count), key=lambda place: f"{place:032b}"[::-1])


def _shortest(runner: FastRunner, block: Block, shape: Shape) -> float:
    """Return the time of a unit whose weights are prepared."""
    x = noise(shape, 0).to(runner.dtype)
    x = channels_last(x) if x.ndim == 4 else x
    forward(runner, [block], x)
    times = []
    for _ in range(_RUNS):
        began = time.thread_time()
        forward(runner, [block], x)
        times.append(time.thread_time() - began)
    return min(times)


def kept(kind: str, measure: Callable[[], Seconds]) -> Seconds:
    """Return what was measured for this kind of network and machine, once.

    It is kept in the user's cache folder, so that the choice, and with it what was computed by it,
    stays the same from run to run; where that cannot be written, as long as the process.
    """
    if kind not in _known:
        file = _folder() / f"{hashlib.sha256(kind.encode()).hexdigest()[:32]}.json"
        _known[kind] = _read(file) or _written(file, kind, measure())
    return _known[kind]


def _folder() -> Path:
    return cache_folder() / "precision"


def _read(file: Path) -> Seconds | None:
    try:
        row = json.loads(file.read_text("utf-8"))
        return {name: float(row["seconds"][name]) for name in _DTYPES}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _written(file: Path, kind: str, found: Seconds) -> Seconds:
    """Keep what was measured, unless another process was first; return what is kept."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        _make_room(file.parent)
        handle, name = tempfile.mkstemp(dir=file.parent)
        draft = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump({"kind": kind, "seconds": found}, out, indent=1)
            _keep(draft, file)
        finally:
            draft.unlink(missing_ok=True)
    return _read(file) or found


def _keep(draft: Path, file: Path) -> None:
    """Give a file its name, unless a sound one has it."""
    try:
        os.link(draft, file)
    except OSError:  # there is one, or the file system has no links
        if _read(file) is None:
            draft.replace(file)


def _make_room(folder: Path) -> None:
    """Delete the oldest choices where there are too many."""
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)
    for file in files[: max(0, len(files) - KEPT + 1)]:
        file.unlink(missing_ok=True)
