"""Run folders: what a training run needs to go on where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyflux_transfer.bundle import read_tensors, write_tensors
from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.tensors import State
from pyflux_transfer.training.callbacks import Record

FILE = "last.safetensors"
FORMAT = 1
_KEY = "pyflux_transfer_run"


@dataclass(frozen=True)
class Snapshot:
    """A run after a finished epoch.

    `tail` and `best` are the trained tensors now and at the best epoch, `optimizer` the engine's
    state; `setting` describes everything that must be the same for the run to go on.
    """

    setting: dict[str, Any]
    records: tuple[Record, ...]
    tail: State
    best: State
    optimizer: State


def write(folder: Path, snapshot: Snapshot) -> None:
    """Replace the folder's snapshot atomically."""
    parts = {"tail": snapshot.tail, "best": snapshot.best, "optimizer": snapshot.optimizer}
    tensors = {f"{part}/{name}": v for part, state in parts.items() for name, v in state.items()}
    row = {
        "format": FORMAT,
        "setting": snapshot.setting,
        "records": [record.to_json() for record in snapshot.records],
    }
    write_tensors(folder / FILE, tensors, {_KEY: json.dumps(row)})


def read(folder: Path, setting: dict[str, Any]) -> Snapshot | None:
    """Return the folder's snapshot, None where there is none.

    Raises InputError when it was made with another setting, naming the first difference.
    """
    path = folder / FILE
    if not path.exists():
        return None
    tensors, metadata = read_tensors(path)
    if _KEY not in metadata:
        raise InputError(f"{path} is no run of this program. Choose another run folder.")
    row = json.loads(metadata[_KEY])
    if row.get("format") != FORMAT:
        raise InputError(
            f"{path} was written by another version of pyflux-transfer. Go on with that one, or "
            "start in another folder."
        )
    _same(row["setting"], json.loads(json.dumps(setting)), folder)
    parts: dict[str, State] = {"tail": {}, "best": {}, "optimizer": {}}
    for full, value in tensors.items():
        part, name = full.split("/", 1)
        parts[part][name] = value
    records = tuple(Record(**record) for record in row["records"])
    return Snapshot(row["setting"], records, **parts)


def refuse_existing(folder: Path) -> None:
    """Refuse a folder that holds a run already, so that nothing is overwritten by mistake."""
    if (folder / FILE).exists():
        raise existing(folder)


def existing(folder: Path) -> InputError:
    """Return the error of a folder that holds a run already."""
    return InputError(
        f"{folder} holds a run already. Pass resume=True (--resume) to go on with it, "
        "or choose another folder."
    )


def _same(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    before, now = _flat(old), _flat(new)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise InputError(
                f"The run in {folder} was made with {name}={before.get(name)!r}, now it is "
                f"{now.get(name)!r}. Resume with the same setting, or start in another folder."
            )


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Name the entries of inner mappings and lists, so that a difference is one value."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, list):
            value = {str(i): item for i, item in enumerate(value, start=1)}
        if isinstance(value, dict):
            flat |= {f"{name} {inner}": item for inner, item in _flat(value).items()}
        else:
            flat[name] = value
    return flat
