"""The one decoder: a file, bytes, a Pillow image or an array in, upright 8-bit RGB out."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from pyflux_transfer.data import apart, guard
from pyflux_transfer.errors import ImageError

Pixels = NDArray[np.uint8]
Source = str | Path | bytes | Image.Image | NDArray[Any]
Color = tuple[int, int, int]
Box = tuple[float, float, float, float]

MAX_PIXELS = 50_000_000
WHITE: Color = (255, 255, 255)


def decode(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    background: Color = WHITE,
    shorter_side: int | None = None,
) -> Pixels:
    """Decode an image to (H,W,3) uint8, upright, read-only.

    Reads JPEG, PNG, GIF, WebP, TIFF, BMP, PPM and AVIF; arrays are (H,W), (H,W,3) or (H,W,4) of
    uint8 or uint16. The EXIF orientation is applied, 16 bits are scaled to 8, transparent pixels
    are laid on `background`, an animation gives its first frame. `shorter_side` allows a JPEG to be
    decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter side stays at least twice that.

    Raises ImageError: more than `max_pixels` (told by the header, before anything is decoded), not
    an image, truncated, damaged; the message names the file where there is one.
    """
    picture = decode_picture(
        source, max_pixels=max_pixels, background=background, shorter_side=shorter_side
    )
    return np.asarray(picture.image)


@dataclass(frozen=True)
class Picture:
    """An upright RGB image and the box of it (left, top, right, bottom) that the picture fills.

    The box is the whole image, but where a JPEG was decoded at a fraction of its size: its last
    column and row may then stand for a part of a pixel. To ignore that shifts fine detail.
    """

    image: Image.Image
    box: Box


def decode_picture(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    background: Color = WHITE,
    shorter_side: int | None = None,
    admit: guard.Admit | None = None,
) -> Picture:
    """Decode as `decode` does, but leave the image Pillow's, which saves two copies.

    `admit` is told the bytes that decoding takes before it begins, and may refuse with an
    ImageError. Without it, what takes many is decoded in a process that can be ended.
    """
    try:
        if isinstance(source, np.ndarray):
            return _finish(_from_array(source, max_pixels), background)
        if isinstance(source, Image.Image):
            check_pixels(source.size, max_pixels)
            return _finish(source, background)
        with _stream(source) as stream:
            image = _open(stream)
            check_pixels(image.size, max_pixels)
            full = image.size
            drafted = shorter_side and image.draft(None, (2 * shorter_side, 2 * shorter_side))
            need = guard.check(image, full, stream)
            if admit:
                admit(need)
            elif need > guard.HEAVY_BYTES and apart.possible():
                stream.seek(0)
                return Picture(*apart.decode(stream.read(), max_pixels, background, shorter_side))
            return _finish(image, background, drafted[1][2:] if drafted else None)
    except ImageError as error:
        raise ImageError(f"{_subject(source)} cannot be read: {error}") from error.__cause__
    except OSError as error:
        reason = error.strerror or f"it is truncated or damaged ({error})"
        raise ImageError(f"{_subject(source)} cannot be read: {reason}.") from error
    # Pillow's readers meet hostile bytes with whatever error the parsing happens to hit.
    except Exception as error:
        kind = type(error).__name__
        raise ImageError(
            f"{_subject(source)} cannot be read: it is damaged ({kind}: {error})."
        ) from error


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image with more than `max_pixels`, or with none."""
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"it has {width} × {height} = {width * height:,} pixels, more than the limit of "
            f"{max_pixels:,}. Shrink it, or raise max_pixels."
        )
    if width * height == 0:
        raise ImageError(f"it has {width} × {height} pixels.")


def _subject(source: Source) -> str:
    return f"'{source}'" if isinstance(source, (str, Path)) else "The image"


# --- opening -------------------------------------------------------------------------------------


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """Pillow's JPEG reader, less its look into EXIF for the print resolution.

    That look costs time and warns about the quirks of many cameras.
    """

    def getexif(self) -> Image.Exif:
        return Image.Exif()


def _plugin(module: str, name: str) -> Callable[[IO[bytes]], Image.Image]:
    def reader(stream: IO[bytes]) -> Image.Image:
        # Imported on first use: most runs see JPEG only, and Pillow may be built without some.
        make = getattr(import_module(f"PIL.{module}ImagePlugin"), name)
        return cast(Image.Image, make(stream))

    return reader


# The readers are called directly, not through Image.open: it would start Ghostscript for an EPS
# file, and warns about large images by itself, in a way that no thread can catch safely.
_READERS: dict[str, tuple[bytes, Callable[[IO[bytes]], Image.Image]]] = {
    "JPEG": (rb"\xff\xd8\xff", _Jpeg),
    "PNG": (rb"\x89PNG\r\n\x1a\n", _plugin("Png", "PngImageFile")),
    "GIF": (rb"GIF8[79]a", _plugin("Gif", "GifImageFile")),
    "WebP": (rb"RIFF....WEBP", _plugin("WebP", "WebPImageFile")),
    "TIFF": (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", _plugin("Tiff", "TiffImageFile")),
    "BMP": (rb"BM", _plugin("Bmp", "BmpImageFile")),
    "PPM": (rb"P[1-6]\s", _plugin("Ppm", "PpmImageFile")),
    "AVIF": (rb"....ftypavi[fs]", _plugin("Avif", "AvifImageFile")),
}
_HEADER_BYTES = 16
_HEIC = re.compile(rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL)


def _stream(source: str | Path | bytes) -> IO[bytes]:
    if isinstance(source, (str, Path)):
        return Path(source).open("rb")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    raise ImageError(
        f"expected a path, bytes, a Pillow image or an array, got {type(source).__name__}."
    )


def _open(stream: IO[bytes]) -> Image.Image:
    """Read the header; pixels are decoded later."""
    header = stream.read(_HEADER_BYTES)
    stream.seek(0)
    if not header:
        raise ImageError("it is empty.")
    for magic, reader in _READERS.values():
        if re.match(magic, header, re.DOTALL):
            return reader(stream)
    if _HEIC.match(header):
        raise ImageError("HEIC is not supported. Export it as JPEG.")
    raise ImageError(f"it is not an image. Known formats: {', '.join(_READERS)}.")


def _from_array(array: NDArray[Any], max_pixels: int) -> Image.Image:
    channels_fit = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not channels_fit or array.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            "an array must be (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16, "
            f"got {array.dtype} {array.shape}."
        )
    check_pixels((array.shape[1], array.shape[0]), max_pixels)
    return Image.fromarray(_to_8_bits(array, 65535) if array.dtype == np.uint16 else array)


# --- to upright 8-bit RGB ------------------------------------------------------------------------

# EXIF orientation → what makes it upright, and what that does to the axes: are they swapped, does
# the picture then begin at the right, at the bottom?
_UPRIGHT = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, False, True, False),
    3: (Image.Transpose.ROTATE_180, False, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, False, True),
    5: (Image.Transpose.TRANSPOSE, True, False, False),
    6: (Image.Transpose.ROTATE_270, True, True, False),
    7: (Image.Transpose.TRANSVERSE, True, True, True),
    8: (Image.Transpose.ROTATE_90, True, False, True),
}


def _finish(
    image: Image.Image, background: Color, extent: tuple[float, float] | None = None
) -> Picture:
    image.load()
    rgb = _to_rgb(image, background)
    width, height = extent or rgb.size
    # Asked after loading: PNG may hold EXIF behind the pixels, and TIFF has turned itself.
    turn = _UPRIGHT.get(_orientation(image.info.get("exif", b"")))
    if turn is None:
        return Picture(rgb, (0, 0, width, height))
    operation, swapped, from_right, from_bottom = turn
    rgb = rgb.transpose(operation)
    if swapped:
        width, height = height, width
    left = rgb.width - width if from_right else 0
    top = rgb.height - height if from_bottom else 0
    return Picture(rgb, (left, top, left + width, top + height))


def _to_rgb(image: Image.Image, background: Color) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        grey = np.asarray(image)
        image = Image.fromarray(_to_8_bits(grey, _white_level(grey)))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # convert always copies
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas


def _white_level(grey: NDArray[Any]) -> float:
    """Return the value that means white: files say it for 16 bits, not for 32 bits and floats."""
    if grey.dtype.itemsize == 2:
        return 65535
    levels = (1, 255, 65535, 2**32 - 1) if grey.dtype.kind == "f" else (65535, 2**32 - 1)
    highest = float(np.max(grey, where=np.isfinite(grey), initial=0))
    return next((level for level in levels if highest <= level), highest)


def _to_8_bits(values: NDArray[Any], white: float) -> Pixels:
    scaled = np.nan_to_num(values.astype(np.float32)) * np.float32(255 / white)
    rounded: Pixels = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    return rounded


def _orientation(exif: bytes) -> int:
    """Return EXIF tag 0x0112 of the first directory, 1 where it is not to be had.

    Read by hand: Pillow's own reader warns about the quirks of many cameras.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == 0x0112 and kind == 3:
                return int(value)
    except struct.error:
        pass
    return 1
