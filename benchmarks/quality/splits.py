"""Which photos are learnt from, and which judge: the latter are always the same."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

TEST_SHARE = 0.4
SUFFIXES = {".png", ".jpg"}


def write(source: Path, target: Path, size: int | None, seed: int) -> tuple[Path, Path]:
    """Copy `size` photos a class (None: all) to `target/train`, the test photos to `target/test`.

    What stands before `--` in a file's name is a group, and a group lies on one side.
    """
    for label in sorted(place for place in source.iterdir() if place.is_dir()):
        files = sorted(path for path in label.iterdir() if path.suffix in SUFFIXES)
        test = [path for path in files if held_back(path)]
        rest = sorted(
            (path for path in files if path not in set(test)),
            key=lambda path: _draw(path.name, str(seed)),
        )
        for part, paths in (("train", rest[:size]), ("test", test)):
            folder = target / part / label.name
            folder.mkdir(parents=True, exist_ok=True)
            for path in paths:
                shutil.copyfile(path, folder / path.name)
    return target / "train", target / "test"


def held_back(path: Path) -> bool:
    """Tell whether a photo judges and is never learnt from."""
    return _draw(group(path), "test") < TEST_SHARE


def group(path: Path) -> str:
    """Return what a photo stays together with."""
    return path.stem.split("--")[0] if "--" in path.stem else path.stem


def _draw(name: str, salt: str) -> float:
    """Return a number in [0, 1) that depends on the name and the salt alone."""
    return int.from_bytes(hashlib.sha256(f"{salt}/{name}".encode()).digest()[:6], "big") / 2**48
