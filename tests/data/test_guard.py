"""Pictures whose headers promise what no picture is."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer.data import guard
from pyflux_transfer.data.dataset import scan
from pyflux_transfer.data.decode import decode
from pyflux_transfer.errors import ImageError


def png(width: int, height: int) -> bytes:
    """Return a PNG without any pixel data: only its header may be looked at."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def tiff(*tags: tuple[int, int, int, int], following: int = 0, data: bytes = b"") -> bytes:
    """Return a TIFF with tags (number, type, count, value) and one directory."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + entries + struct.pack("<I", following) + data


def grey(side: int, *more: tuple[int, int, int, int], following: int = 0) -> bytes:
    start = 8 + 2 + 12 * (7 + len(more)) + 4
    plain = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    if more:
        plain += [(324, 4, 1, start), (325, 4, 1, side * side), *more]
    else:
        plain += [(273, 4, 1, start), (279, 4, 1, side * side)]
    return tiff(*plain, following=following, data=bytes(side * side))


def jpeg(scans: int, side: int = 64) -> bytes:
    """Return a progressive JPEG with empty passes added."""
    stream = io.BytesIO()
    Image.new("L", (side, side), 90).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(1, 50_000_000), "at most 65,535 are taken"),
        (png(60_000, 1), "at most 1000 to 1"),
        (jpeg(guard.MAX_SCANS), "passes over its pixels"),
        (grey(100, (322, 4, 1, 32768), (323, 4, 1, 16)), "tiles are 32768 pixels wide"),
        (grey(100, (322, 4, 1, 16), (323, 4, 1, 16000)), "tiles are 16000 pixels high"),
        (grey(10, following=8), "run in a circle"),
    ],
)
def test_what_no_header_can_mean_is_refused_before_it_is_decoded(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(data)


def test_parts_that_are_larger_than_the_file_are_refused() -> None:
    right, wrong = (struct.pack("<HHII", 279, 4, 1, size) for size in (100, 9999))
    with pytest.raises(ImageError, match="9,999 bytes together"):
        decode(grey(10).replace(right, wrong))


def test_what_cameras_and_programs_write_is_let_through() -> None:
    assert decode(jpeg(3)).shape == (64, 64, 3)
    assert decode(grey(10)).shape == (10, 10, 3)
    pages = io.BytesIO()
    page = Image.new("RGB", (40, 30), (1, 2, 3))
    page.save(pages, "TIFF", save_all=True, append_images=[page] * 3, compression="tiff_lzw")
    assert decode(pages.getvalue()).shape == (30, 40, 3)
    strip = Image.fromarray(np.zeros((2, 1500, 3), np.uint8))
    stream = io.BytesIO()
    strip.save(stream, "PNG")
    assert decode(stream.getvalue()).shape == (2, 1500, 3)


def test_one_poisonous_photo_of_a_folder_is_skipped_with_its_reason(tmp_path: Path) -> None:
    for name, value in (("a", 10), ("b", 200)):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (20 + number, 20), value).save(tmp_path / name / f"{number}.png")
    (tmp_path / "a" / "bomb.jpg").write_bytes(jpeg(guard.MAX_SCANS))
    found = scan(tmp_path, max_skipped=0.5).train
    assert found.counts == {"a": 3, "b": 3}
    assert [item.path.name for item in found.skipped] == ["bomb.jpg"]
    assert "passes over its pixels" in found.skipped[0].reason


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "P"])
def test_the_estimate_grows_with_the_pixels(mode: str) -> None:
    sizes = [guard.check(Image.new(mode, (n, n)), (n, n), io.BytesIO()) for n in (10, 100)]
    assert sizes[1] == 100 * sizes[0]
    assert sizes[0] >= 10 * 100
