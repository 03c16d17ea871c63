"""Pictograms and drawings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.datasets.images import Item, drawn, listed, matching, opened, slug
from benchmarks.datasets.packages import Packages


def emoji(packages: Packages) -> Iterator[Item]:
    folder = packages.npm("emoji-datasource-twitter", "16.0.0")
    entries = json.loads((folder / "emoji.json").read_text())
    images = folder / "img/twitter/64"
    return opened(
        (slug(entry["category"].lower()), Path(entry["image"]).stem, images / entry["image"])
        for entry in entries
        if entry["has_img_twitter"] and entry["category"] != "Component"
    )


def icons(packages: Packages) -> Iterator[Item]:
    folder = packages.debian("oxygen-icon-theme") / "usr/share/icons/oxygen/base/64x64"
    return opened((path.parent.name, path.stem, path) for path in listed(folder, "*/*.png"))


CLIPART = {
    "arrows": "shapes/arrows/*",
    "birds": "animals/birds/*",
    "bugs": "animals/bugs/*",
    "buildings": "buildings/**/*",
    "clothing": "people/clothing/**/*",
    "computers": "computer/hardware/*",
    "desserts": "food/desserts/*",
    "drinks": "food/beverages/**/*",
    "flowers": "plants/flowers/*",
    "fruit": "food/fruit/*",
    "mammals": "animals/mammals/**/*",
    "music": "recreation/music/*",
    "people": "people/*",
    "smilies": "people/smilies/*",
    "sports": "recreation/sports/*",
    "weather": "signs_and_symbols/weather/*",
}


def clipart(packages: Packages) -> Iterator[Item]:
    folder = packages.debian("openclipart-png") / "usr/share/openclipart/png"
    return opened(matching(folder, CLIPART))


def signs(packages: Packages) -> Iterator[Item]:
    """Road signs of many countries as `purpose--meaning--variant.svg`."""
    folder = packages.npm("mapillary_sprite_source", "1.8.0") / "package_signs"
    for path in sorted(folder.glob("*--*.svg")):
        purpose, name = path.stem.split("--", 1)
        yield purpose, name, drawn(path, 96)


def chess(packages: Packages) -> Iterator[Item]:
    pieces = {"b": "bishop", "k": "king", "n": "knight", "p": "pawn", "q": "queen", "r": "rook"}
    folder = packages.debian("pychess") / "usr/share/pychess/pieces"
    for path in sorted(folder.glob("*/[bw][bknpqr].svg")):
        if path.parent.name in {"makruk", "sittuyin"}:  # of other games
            continue
        yield pieces[path.stem[1]], f"{path.parent.name}--{path.stem}", drawn(path, 96)


def units(packages: Packages) -> Iterator[Item]:
    """Pixel art of a game's units, by race."""
    core = packages.debian("wesnoth-1.16-data") / "usr/share/games/wesnoth/1.16/data/core"
    standing = re.compile(r'^ {4,8}image="(units/[^":~\[]+\.png)"$', re.M)  # deeper: in motion
    for path in sorted(core.glob("units/*/*.cfg")):
        text = path.read_text()
        race = re.search(r"^ *race=(\w+)", text, re.M)
        for image in dict.fromkeys(standing.findall(text)):
            if race and (core / "images" / image).exists():
                stem = image.removeprefix("units/").removesuffix(".png")
                yield race[1], slug(stem), Image.open(core / "images" / image)


def flags(packages: Packages) -> Iterator[Item]:
    """Flags of countries, by the continent that the time zone database has them in."""
    folder = packages.debian("iso-flags-png-320x240") / "usr/share/iso-flags-png-320x240"
    zones = packages.debian("tzdata") / "usr/share/zoneinfo/zone.tab"
    continents: dict[str, str] = {}
    for line in zones.read_text().splitlines():
        if not line.startswith("#"):
            country, _, zone = line.split("\t")[:3]
            continents.setdefault(country.lower(), zone.split("/")[0].lower())
    kept = {"africa", "america", "asia", "europe", "pacific"}
    return opened(
        (continents[path.stem], path.stem, path)
        for path in listed(folder, "*.png")
        if continents.get(path.stem) in kept
    )
