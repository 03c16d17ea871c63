from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer.data.decode import decode
from pyflux_transfer.data.reading import read_content
from pyflux_transfer.data.tabular.contents import Drawn, Fetched, Held, content
from pyflux_transfer.errors import ImageError
from tests.photos import photo


def turned() -> Image.Image:
    """Return an image that its EXIF says to turn."""
    image, file = Image.fromarray(photo("red", side=12)[:, :8]), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(file, "PNG", exif=exif)
    return Image.open(io.BytesIO(file.getvalue()))


def clear() -> Image.Image:
    pixels = np.dstack([photo("blue", side=8), np.full((8, 8), 100, np.uint8)])
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "image",
    [
        photo("red"),
        photo("red")[..., 0],
        photo("red")[..., :1],
        photo("red").astype(np.uint16) * 257,
        np.asarray(clear()),
        Image.fromarray(photo("red")).convert("L"),
        Image.fromarray(photo("red")).convert("CMYK"),
        Image.fromarray(photo("red")).convert("P"),
        turned(),
        clear(),
        clear().convert("LA"),
    ],
)
def test_what_is_drawn_decodes_to_the_same_pixels(image: Any) -> None:
    expected = decode(image)
    data = read_content("row 1", Drawn(image), 10_000)
    assert (decode(data) == expected).all()
    assert Drawn(image).read(5) == data[:5]
    assert data == Drawn(image).read(), "equal images have equal digests"
    background = (0, 99, 0)
    assert (decode(data, background=background) == decode(image, background=background)).all()


def test_the_turned_one_is_turned() -> None:
    assert decode(Drawn(turned()).read()).shape == (8, 12, 3)


def test_bytes_are_preferred_to_a_path_and_kept_as_they_are(tmp_path: Path) -> None:
    assert content({"bytes": b"abc", "path": "x.png"}) == Held(b"abc")
    assert content({"bytes": None, "path": "x.png"}) == Path("x.png")
    assert content(bytearray(b"abc")) == Held(b"abc")
    assert content("a/b.png") == Path("a/b.png")
    (tmp_path / "x.png").write_bytes(Drawn(photo("red")).read())
    looked = Fetched([{"bytes": b"0"}, {"bytes": None, "path": tmp_path / "x.png"}].__getitem__, 1)
    assert looked.read() == (tmp_path / "x.png").read_bytes()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (3.5, "it is float, not a path"),
        ({"bytes": None, "path": None}, "it is NoneType, not a path"),
        ("https://a.b/c.png", "is on another machine"),
    ],
)
def test_what_is_no_image_says_so(cell: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        content(cell)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (Held(b"text"), "'row 3' cannot be read: it is not an image"),
        (Held(b"P6 " + bytes(2**26)), "'row 3' cannot be read: it has .* bytes, more than"),
        (Drawn(np.zeros((2, 2, 5), np.uint8)), "'row 3' cannot be read: an array must be"),
        (Drawn(np.zeros((0, 2, 3), np.uint8)), "'row 3' cannot be read: it has 2 × 0 pixels"),
        (Drawn(np.zeros((2, 2, 4), np.uint16)), "'row 3' cannot be read: an array with transp"),
    ],
)
def test_what_cannot_be_read_is_told_of_its_row(held: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_content("row 3", held, 1_000)
