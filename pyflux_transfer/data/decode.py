"""The one decoder: a file, bytes, a Pillow image or an array in, upright 8-bit RGB out."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyflux_transfer.data import apart, guard, tiff
from pyflux_transfer.data.color import to_srgb
from pyflux_transfer.data.entries import Content
from pyflux_transfer.data.formats import FORMATS, HEADER_BYTES, Jpeg, kind_of, open_image
from pyflux_transfer.data.levels import Pixels as Pixels
from pyflux_transfer.data.levels import is_wide, scaled, to_8_bits
from pyflux_transfer.data.mend import endings, without_extras
from pyflux_transfer.data.orientation import TURNS, orientation
from pyflux_transfer.data.reading import MAX_PIXELS as MAX_PIXELS
from pyflux_transfer.data.reading import read_file, read_stream
from pyflux_transfer.errors import ImageError, shortened

Source = str | Path | bytes | IO[bytes] | Content | Image.Image | NDArray[Any]
Color = tuple[int, int, int]
Box = tuple[float, float, float, float]

REVISION = 3  # raised when the same bytes give other pixels: kept features are then made anew
WHITE: Color = (255, 255, 255)
_UNSUPPORTED = re.compile(
    r"unknown (pixel mode|data organization|photometric|raw mode|compression)|unsupported"
    r"|cannot handle|not available|KeyError",
    re.IGNORECASE,
)


def decode(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    background: Color = WHITE,
    shorter_side: int | None = None,
) -> Pixels:
    """Decode an image to (H,W,3) uint8, upright, read-only.

    Reads JPEG, PNG, GIF, WebP, TIFF, BMP, PPM, AVIF and, with the extras `heic` and `jxl`, HEIC and
    JPEG XL. A source is a path, bytes, an open binary file, a Pillow image, or an array (H,W),
    (H,W,1), (H,W,3) or (H,W,4) of uint8 or uint16. The orientation that EXIF or XMP tells is
    applied, colours are converted to sRGB by an embedded profile, more than 8 bits are scaled as
    the file says, transparent pixels are laid on `background`, an animation gives its first frame.
    `shorter_side` allows a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size, as long as its
    shorter side stays at least twice that.

    Raises ImageError: more than `max_pixels` (told by the header, before anything is decoded), not
    an image, of a kind that is not supported, truncated, damaged; the message names the file where
    there is one.
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
    `mended` says that the file lacks its end, but none of its pixels.
    """

    image: Image.Image
    box: Box
    mended: bool = False


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
    settings = _Settings(max_pixels, background, shorter_side, admit)
    with _explained(source):
        if isinstance(source, np.ndarray):
            return _finish(_from_array(source, max_pixels), background)
        if isinstance(source, Image.Image):
            check_pixels(source.size, max_pixels)
            return _finish(source, background)
        return _from_bytes(_bytes(source, max_pixels), settings)


@dataclass(frozen=True)
class _Settings:
    max_pixels: int
    background: Color
    shorter_side: int | None
    admit: guard.Admit | None


@contextmanager
def _explained(source: object) -> Iterator[None]:
    """Say of which file an error is, and whether it is damaged or of an unsupported kind."""
    try:
        yield
    except ImageError as error:
        text = str(error)
        if " cannot be read: " not in text:
            text = f"{_subject(source)} cannot be read: {text}"
        raise ImageError(text) from error.__cause__
    except MemoryError:
        raise  # ours, not the image's
    # Pillow's readers meet hostile bytes with whatever error the parsing happens to hit.
    except Exception as error:
        detail = _detail(error)
        if _unsupported(error):
            reason = f"it is of a kind that is not supported ({detail}). Export it as JPEG or PNG."
        elif isinstance(error, OSError):
            reason = f"it is truncated or damaged ({detail})."
        else:
            reason = f"it is damaged ({detail})."
        raise ImageError(f"{_subject(source)} cannot be read: {reason}") from error


def _detail(error: Exception) -> str:
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _unsupported(error: Exception) -> bool:
    """Tell whether a reader has no means for a file, by what it says."""
    return bool(_UNSUPPORTED.search(_detail(error))) or isinstance(error.__cause__, KeyError)


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image with more than `max_pixels`, or with none."""
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"it has {width} × {height} = {width * height:,} pixels, more than the limit of "
            f"{max_pixels:,}. Shrink it, or raise max_pixels (--max-pixels)."
        )
    if width * height == 0:
        raise ImageError(f"it has {width} × {height} pixels.")


def _subject(source: object) -> str:
    return f"'{shortened(source)}'" if isinstance(source, (str, Path)) else "The image"


# --- opening -------------------------------------------------------------------------------------


def _bytes(source: str | Path | bytes | IO[bytes] | Content, max_pixels: int) -> bytes:
    if isinstance(source, (str, Path)):
        return read_file(source, max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if hasattr(source, "read"):
        return read_stream(source, max_pixels)
    raise ImageError(
        f"expected a path, bytes, a file, a Pillow image or an array, got {type(source).__name__}."
    )


def _from_bytes(data: bytes, settings: _Settings) -> Picture:
    """Decode a file, if need be without what is amiss beside its pixels."""
    kind = kind_of(data[:HEADER_BYTES])
    if kind == "TIFF":
        return _from_tiff(data, settings)
    try:
        return _opened(kind, data, settings)
    except (ImageError, MemoryError):
        raise
    except Exception:
        if kind == "PNG":
            return _opened(kind, without_extras(data), settings)
        if kind == "JPEG" and (ends := endings(data)):
            whole = replace(settings, shorter_side=None)
            first, *others = (_opened(kind, end, whole).image.tobytes() for end in ends)
            if all(other == first for other in others):
                return replace(_opened(kind, ends[0], settings), mended=True)
        raise


def _from_tiff(data: bytes, settings: _Settings) -> Picture:
    """Decode a TIFF by Pillow or, of values that it has no mode for or reads wrongly, here."""
    layout = tiff.Layout.of(data)
    if layout.plain:
        try:
            return _opened("TIFF", data, settings)
        except (ImageError, MemoryError):
            raise
        except Exception as error:
            if not (_unsupported(error) or layout.doubtful):
                raise
    if layout.trouble:
        raise ImageError(layout.trouble)
    check_pixels(layout.size, settings.max_pixels)
    guard.check_tiff(layout.tags, layout.size, io.BytesIO(data))
    if found := _admitted(data, layout.need, settings):
        return found
    from pyflux_transfer.data import strips  # imported late: most runs need none

    return _finish(strips.image(layout, data), settings.background)


def _opened(kind: str, data: bytes, settings: _Settings) -> Picture:
    if stated := FORMATS[kind].size:
        check_pixels(stated(data), settings.max_pixels)
    stream = io.BytesIO(data)
    image = open_image(kind, stream)
    check_pixels(image.size, settings.max_pixels)
    drafted, full = None, image.size
    if settings.shorter_side and isinstance(image, Jpeg):
        drafted = image.draft(None, (2 * settings.shorter_side,) * 2)
    need = guard.check(image, full, stream)
    if found := _admitted(data, need, settings):
        return found
    return _finish(image, settings.background, drafted[1][2:] if drafted else None)


def _admitted(data: bytes, need: int, settings: _Settings) -> Picture | None:
    """Have so many bytes admitted; what is heavy, and admitted by nobody, is decoded apart."""
    if settings.admit:
        settings.admit(need)
    elif need > guard.HEAVY_BYTES and apart.possible():
        limits = (settings.max_pixels, settings.background, settings.shorter_side)
        return Picture(*apart.decode(data, *limits))
    return None


def _from_array(array: NDArray[Any], max_pixels: int) -> Image.Image:
    channels_fit = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not channels_fit or array.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            "an array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or uint16, "
            f"got {array.dtype} {array.shape}."
        )
    check_pixels((array.shape[1], array.shape[0]), max_pixels)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return Image.fromarray(scaled(array, 65535) if array.dtype == np.uint16 else array)


# --- to upright 8-bit RGB ------------------------------------------------------------------------


def _finish(
    image: Image.Image, background: Color, extent: tuple[float, float] | None = None
) -> Picture:
    image.load()
    rgb = _to_rgb(image, background)
    width, height = extent or rgb.size
    # Asked after loading: PNG may hold EXIF behind the pixels, and TIFF has turned itself.
    turn = TURNS.get(orientation(image))
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
    profile = image.info.get("icc_profile")
    if is_wide(image):
        image = to_8_bits(image)
        image.info["icc_profile"] = profile
    if not image.has_transparency_data:
        if profile and (converted := to_srgb(image)):
            return converted
        return image if image.mode == "RGB" else image.convert("RGB")  # convert always copies
    rgba = _with_clear(image) if "low bytes" in image.info else image.convert("RGBA")
    canvas = Image.new("RGB", image.size, background)
    color = image.convert("L") if image.mode in ("LA", "La") else rgba
    canvas.paste(to_srgb(color) or rgba if profile else rgba, mask=rgba.getchannel("A"))
    return canvas


def _with_clear(image: Image.Image) -> Image.Image:
    """Return a PNG of 16 bits a colour with alpha: clear where all bits of all colours say so."""
    low, clear = image.info["low bytes"], image.info["transparency"]
    differs = np.zeros(image.size[::-1], bool)
    for half, of in ((image, [value >> 8 for value in clear]), (low, [v & 255 for v in clear])):
        for channel, value in zip("RGB", of, strict=True):
            differs |= np.asarray(half.getchannel(channel)) != value
    rgba = image.convert("RGB").copy()
    rgba.putalpha(Image.fromarray(differs.astype(np.uint8) * 255))
    return rgba
