"""Photos, and what is like them."""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.datasets.images import Item, listed, matching, opened, slug
from benchmarks.datasets.packages import Packages

PHOTOS = {
    "bird": "animals/birds/*",
    "coin": "symbols/money/*/coins/*|symbols/money/japanese/*",
    "flower": "plants/flowers/*",
    "fruit": "food/fruit/*|food/nuts/*",
    "household": "household/*|household/arttools/*|household/dishes/**/*",
    "instrument": "hobbies/music/**/*",
    "mammal": "animals/mammals/**/*|animals/marsupials/*",
    "roadsign": "town/roadsigns/*",
    "tool": "household/tools/*|medical/*",
    "vegetable": "food/vegetables/*|food/spices/*",
    "vehicle": "vehicles/**/*|military/vehicles/*",
}


def photos(packages: Packages) -> Iterator[Item]:
    folder = packages.debian("tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps"
    cartoons = {"cartoon", "toys"}
    return opened(row for row in matching(folder, PHOTOS) if not cartoons & set(row[2].parts))


# Numbers that the program gives to kinds of object
SKY = {
    "galaxy": (0, 1, 2, 3),
    "open_cluster": (5, 6, 8),
    "globular_cluster": (7,),
    "planetary_nebula": (11, 26, 27),
    "nebula": (10, 13, 14, 15, 16, 17, 18),
}
CATALOGUES = ("n", "ic", "m", "c", "b", "sh2", "vdb", "rcw", "ldn", "lbn", "cr", "mel", "p", "u")


def sky(packages: Packages) -> Iterator[Item]:
    """Photos of the deep sky, by the kind of the object that their names tell."""
    folder = packages.debian("stellarium-data") / "usr/share/stellarium/nebulae/default"
    kinds = {number: name for name, numbers in SKY.items() for number in numbers}
    objects = _catalogue(gzip.decompress((folder / "catalog.dat").read_bytes()))
    for path in listed(folder, "*.png"):
        name = re.match(r"([a-z]+)(\d+)", path.stem.replace("ngc", "n").replace("barnard", "b"))
        kind = kinds.get(objects.get((name[1], int(name[2])), -1)) if name else None
        if kind:
            yield kind, path.stem, Image.open(path)


def _catalogue(data: bytes) -> dict[tuple[str, int], int]:
    """Return each object's kind by catalogue and number, out of Qt's stream (version 3.16)."""
    found: dict[tuple[str, int], int] = {}
    at = 0

    def take(layout: str) -> list[Any]:
        nonlocal at
        values = []
        for code in layout:
            if code == "s":
                size = struct.unpack_from(">I", data, at)[0] % 0xFFFFFFFF
                values.append(data[at + 4 : at + 4 + size].decode("utf-16-be"))
                at += 4 + size
            else:
                values += struct.unpack_from(">" + code, data, at)
                at += struct.calcsize(">" + code)
        return values

    version, _ = take("ss")
    assert version == "3.16", version
    while at < len(data):
        kind = take("IddddI")[5]
        take("sddidddddd")
        for catalogue, number in zip(CATALOGUES, take("I" * len(CATALOGUES)), strict=True):
            if number:
                found.setdefault((catalogue, number), kind)
        take("sIIsssssssIIIII")
    return found


def furniture(packages: Packages) -> Iterator[Item]:
    """Pictures of 3D models, by room, of all libraries."""
    folder = packages.debian("sweethome3d-furniture") / "usr/share/sweethome3d/furniture"
    for library in sorted(folder.glob("*.sh3f")):
        with zipfile.ZipFile(library) as archive:
            lines = archive.read("PluginFurnitureCatalog.properties").decode("latin-1").splitlines()
            facts: dict[str, dict[str, str]] = defaultdict(dict)
            for line in lines:
                if match := re.match(r"(category|icon)#(\d+)=(.*)", line):
                    facts[match[2]][match[1]] = match[3].strip()
            for number, fact in facts.items():
                if fact["category"] != "Miscellaneous":
                    icon = archive.read(fact["icon"].lstrip("/"))
                    stem = slug(f"{library.stem}-{number}")
                    yield slug(fact["category"].lower()), stem, Image.open(io.BytesIO(icon))


TEXTURES = {
    "brick": "(street)?bricks?",
    "carpet": "carpet",
    "concrete": "conc(rete)?",
    "dirt": "(ground_)?dirt",
    "door": "doors?",
    "grass": "grass",
    "metal": "metal|(drk|f)?mtl(wall|support)?",
    "rock": "rock|cliff|stone",
    "roof": "roof",
    "tile": "tiles?",
    "wood": "wood",
}


def textures(packages: Packages) -> Iterator[Item]:
    """Photographic textures of a game, by the material that alone their names tell."""
    archive = packages.debian("ufoai-textures") / "usr/share/games/ufoai/base/0textures.pk3"
    with zipfile.ZipFile(archive) as textures:
        for name in sorted(textures.namelist()):
            path = Path(name)
            words = re.findall(r"[a-z]+", path.stem.lower())
            labels = {label for label, word in TEXTURES.items()
                      if any(re.fullmatch(word, part) for part in words)}  # fmt: skip
            maps = re.search(r"_(nm|gm|sm|rm|n|s|h)$", path.stem)  # relief, gloss and so on
            if len(labels) == 1 and path.suffix in {".jpg", ".png"} and not maps:
                image = Image.open(io.BytesIO(textures.read(name)))
                if min(image.size) >= 32:
                    yield labels.pop(), slug(f"{path.parent.name}-{path.name}"), image
