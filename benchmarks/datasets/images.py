"""Images out of files: found, opened, drawn."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

Item = tuple[str, str, Image.Image]  # class, file name without suffix, image
Files = Iterable[tuple[str, str, Path]]


def matching(folder: Path, patterns: dict[str, str]) -> Files:
    """Return the images that each class's patterns (parted by `|`) find, but no links."""
    for label, several in patterns.items():
        for pattern in several.split("|"):
            for path in listed(folder, pattern + ".png"):
                yield label, slug(str(path.relative_to(folder).with_suffix(""))), path


def listed(folder: Path, pattern: str) -> list[Path]:
    found = sorted(path for path in folder.glob(pattern) if not path.is_symlink())
    assert found, f"{folder} has no {pattern}"
    return found


def opened(files: Files) -> Iterator[Item]:
    for label, stem, path in files:
        yield label, stem, Image.open(path)


def drawn(path: Path, side: int) -> Image.Image:
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_path=str(path), height=side, dpi=96, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png)))


def slug(text: str) -> str:
    """Fit for a file's name, and without the `--` that ends a group's name."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")
