"""Datasets that cannot be used, one maker each, and what the refusal must say."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from tests import photos


def empty_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def missing(folder: Path) -> Path:
    return folder / "nowhere"


def empty_class(folder: Path) -> Path:
    photos.write(folder, {"blue": 3, "red": 3})
    (folder / "green").mkdir()
    return folder


def one_class(folder: Path) -> Path:
    return photos.write(folder, {"blue": 3})


def one_image(folder: Path) -> Path:
    return photos.write(folder, {"blue": 3, "green": 3, "red": 1})


def no_images(folder: Path) -> Path:
    photos.write(folder, {"blue": 3, "green": 3, "red": 3})
    for i in range(2):
        (folder / "red" / f"{i}.jpg").write_text("no image")
    return folder


def truncated(folder: Path) -> Path:
    photos.write(folder, {"blue": 3, "green": 3, "red": 3})
    path = folder / "red" / "000.png"
    path.write_bytes(path.read_bytes()[:200])
    return folder


def bomb(folder: Path) -> Path:
    """A few bytes of PNG that say they are 100,000 × 100,000 pixels."""
    photos.write(folder, {"blue": 3, "green": 3, "red": 3})
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    ]
    (folder / "red" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return folder


def _table(folder: Path, text: str) -> Path:
    photos.write(folder, {"blue": 3, "red": 3})
    (folder / "table.csv").write_text(text)
    return folder / "table.csv"


def table_without_column(folder: Path) -> Path:
    return _table(folder, "path,class\nblue/000.png,blue\n")


def table_of_missing_files(folder: Path) -> Path:
    return _table(folder, "path,label\nblue/000.png,blue\nred/999.png,red\n")


def table_without_rows(folder: Path) -> Path:
    return _table(folder, "path,label\n")


def a_file(folder: Path) -> Path:
    photos.write(folder, {"blue": 1})
    return folder / "blue" / "000.png"


# maker → what the one line says
BROKEN: dict[Callable[[Path], Path], str] = {
    empty_folder: "holds no folders. Put the images of each class into a folder of its own",
    missing: "does not exist. Give a folder",
    empty_class: "green' is empty. Fill it with images or remove it",
    one_class: "has one class only ('blue'), at least two are needed",
    one_image: "The class 'red' has 1 image, a split needs two. Add images",
    no_images: "2 of 11 files cannot be read, more than the 5% allowed",
    truncated: "1 of 9 files cannot be read, more than the 5% allowed",
    bomb: "1 of 10 files cannot be read, more than the 5% allowed",
    table_without_column: "lacks the column 'label', it has: path, class",
    table_of_missing_files: "names 1 missing file",
    table_without_rows: "names no images to train on",
    a_file: "is neither a folder nor a .csv table",
}
