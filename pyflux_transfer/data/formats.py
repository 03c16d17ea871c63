"""Which kind of image bytes are, told by their beginning, and what reads each kind."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import IO, cast

from PIL import Image, JpegImagePlugin

from pyflux_transfer.data import jxl
from pyflux_transfer.errors import ImageError

HEADER_BYTES = 256  # what tells the kind
Reader = Callable[[IO[bytes]], Image.Image]


@dataclass(frozen=True)
class Format:
    """How a kind of file begins, what opens it, and the optional package that may do so.

    `size` tells width and height where opening decodes already.
    """

    magic: bytes
    reader: Reader
    extra: str = ""
    size: Callable[[bytes], tuple[int, int]] | None = None


class Jpeg(JpegImagePlugin.JpegImageFile):
    """Pillow's JPEG reader, less its look into EXIF for the print resolution.

    That look costs time and warns about the quirks of many cameras.
    """

    def getexif(self) -> Image.Exif:
        """Return none."""
        return Image.Exif()


def _plugin(module: str, name: str) -> Reader:
    def reader(stream: IO[bytes]) -> Image.Image:
        # Imported on first use: most runs see JPEG only, and Pillow may be built without some.
        return cast(Image.Image, getattr(import_module(module), name)(stream))

    return reader


def _png(stream: IO[bytes]) -> Image.Image:
    """Open a PNG; Pillow spreads few bits of grey over 8, but not always the transparent value."""
    image = _plugin("PIL.PngImagePlugin", "PngImageFile")(stream)
    raw_mode = image.tile[0][3] if image.tile else ""  # type: ignore[attr-defined]
    clear = image.info.get("transparency")
    if isinstance(clear, int) and raw_mode in _SPREAD:
        image.info["transparency"] = min(clear * _SPREAD[raw_mode], 255)
    if isinstance(clear, tuple) and raw_mode == "RGB;16B":
        stream.seek(0)
        image.info["low bytes"] = _low_bytes(stream.read())
    return image


def _low_bytes(data: bytes) -> Image.Image:
    """Open a PNG of 16 bits a colour by the lower 8 of each: Pillow's mode holds one byte."""
    image = _plugin("PIL.PngImagePlugin", "PngImageFile")(io.BytesIO(data))
    # The other order of bytes: what is taken for the upper one is the lower.
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]  # type: ignore[attr-defined]
    return image


def _jxl(stream: IO[bytes]) -> Image.Image:
    """Open a JPEG XL: what is not a JPEG inside is upright already, whatever EXIF says."""
    image = _plugin("pillow_jxl.JpegXLImagePlugin", "JXLImageFile")(stream)
    if not getattr(image, "jpeg", False):
        image.info.pop("exif", None)
    return image


_SPREAD = {"1": 255, "L;2": 85, "L;4": 17}


# The readers are called directly, not through Image.open: it would start Ghostscript for an EPS
# file, and warns about large images by itself, in a way that no thread can catch safely.
FORMATS = {
    "JPEG": Format(rb"\xff\xd8\xff", Jpeg),
    "PNG": Format(rb"\x89PNG\r\n\x1a\n", _png),
    "GIF": Format(rb"GIF8[79]a", _plugin("PIL.GifImagePlugin", "GifImageFile")),
    "WebP": Format(rb"RIFF....WEBP", _plugin("PIL.WebPImagePlugin", "WebPImageFile")),
    "TIFF": Format(
        rb"II\*\0|MM\0\*|II\+\0|MM\0\+", _plugin("PIL.TiffImagePlugin", "TiffImageFile")
    ),
    "BMP": Format(rb"BM", _plugin("PIL.BmpImagePlugin", "BmpImageFile")),
    "PPM": Format(rb"P[1-6]\s", _plugin("PIL.PpmImagePlugin", "PpmImageFile")),
    "AVIF": Format(rb"(?!)", _plugin("PIL.AvifImagePlugin", "AvifImageFile")),  # by its brands
    "HEIC": Format(rb"(?!)", _plugin("pillow_heif", "HeifImageFile"), "heic"),
    "JPEG XL": Format(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", _jxl, "jxl", jxl.size),
}
# What people meet and we do not read; the rest is "not an image".
_OTHERS = {
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "an icon": rb"\0\0[\x01\x02]\0[^\0]\0",
    "a Photoshop document": rb"8BPS",
    "a PDF": rb"%PDF",
    "SVG": rb"\s*(<\?xml[^>]*>\s*)?<svg\b",
    "OpenEXR": rb"\x76\x2f\x31\x01",
}
_BRANDS = {
    "AVIF": {b"avif", b"avis"},
    "HEIC": {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1",
             b"msf1"},
}  # fmt: skip


def kind_of(header: bytes) -> str:
    """Return the name in FORMATS of what begins so. Raises ImageError for anything else."""
    if not header:
        raise ImageError("it is empty.")
    for name, row in FORMATS.items():
        if re.match(row.magic, header, re.DOTALL):
            return name
    brands = _brands(header)
    for name, known in _BRANDS.items():  # mif1 alone says neither; AVIF names itself beside it
        if known & brands:
            return name
    for name, magic in _OTHERS.items():
        if re.match(magic, header, re.DOTALL):
            raise ImageError(f"it is {name}, which is not supported. Export it as JPEG or PNG.")
    raise ImageError(f"it is not an image. Known formats: {', '.join(FORMATS)}.")


def open_image(kind: str, stream: IO[bytes]) -> Image.Image:
    """Read the header; pixels are decoded later. Raises ImageError without the package for it."""
    row = FORMATS[kind]
    try:
        return row.reader(stream)
    except ModuleNotFoundError as error:
        if not row.extra:
            raise
        raise ImageError(
            f"reading {kind} needs a package: pip install 'pyflux-transfer[{row.extra}]'. Or "
            "export it as JPEG."
        ) from error


def _brands(header: bytes) -> set[bytes]:
    """Return the brands that an ISO media file names, the major one and those it agrees with."""
    if header[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(header[:4], "big"), len(header))
    return {header[8:12], *(header[i : i + 4] for i in range(16, end - 3, 4))}
