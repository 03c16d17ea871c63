from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pyflux_transfer.data.decode import decode, decode_picture
from pyflux_transfer.errors import ImageError
from tests.data.pictures import Pixels, encoded, picture, tiff

RGB = picture(20, 30)
PHOTO = Image.fromarray(RGB)
LARGE = picture(120, 160)


def far(pixels: Pixels, wanted: Pixels) -> float:
    """Return the mean difference in levels of 255."""
    assert pixels.shape == wanted.shape
    return float(np.abs(pixels.astype(int) - wanted).mean())


# --- kinds of files ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_lossless_files_come_back_exactly(kind: str) -> None:
    np.testing.assert_array_equal(decode(encoded(PHOTO, kind)), RGB)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_files_come_back_nearly(kind: str) -> None:
    if kind == "AVIF":
        pytest.importorskip("PIL.AvifImagePlugin")
    pixels = decode(encoded(Image.fromarray(LARGE), kind, quality=95))
    assert pixels.dtype == np.uint8
    assert far(pixels, LARGE) < 3


def test_paths_strings_bytes_and_pillow_images_agree(tmp_path: Path) -> None:
    path = tmp_path / "a photo.png"
    PHOTO.save(path)
    with Image.open(path) as opened:
        for source in (path, str(path), path.read_bytes(), opened):
            np.testing.assert_array_equal(decode(source), RGB)


def test_a_photo_with_a_second_picture_behind_gives_the_first() -> None:
    # Cameras call it MPO; it begins as a JPEG.
    other = Image.fromarray(picture(120, 160, seed=9))
    first = Image.fromarray(LARGE)
    assert far(decode(encoded(first, "MPO", save_all=True, append_images=[other])), LARGE) < 5


# --- kinds of pixels -----------------------------------------------------------------------------


def test_grey_is_repeated() -> None:
    grey = PHOTO.convert("L")
    pixels = decode(encoded(grey, "PNG"))
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], np.asarray(grey))


def test_one_bit_is_black_and_white() -> None:
    bits = Image.fromarray(RGB[..., 0] > 128)
    assert bits.mode == "1"
    np.testing.assert_array_equal(
        decode(encoded(bits, "PNG"))[..., 0], np.where(RGB[..., 0] > 128, 255, 0)
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_to_8(kind: str) -> None:
    values = np.linspace(0, 65535, 600).round().astype(np.uint16).reshape(20, 30)
    pixels = decode(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(pixels[..., 0], np.floor(values / 257 + 0.5))
    assert pixels.min() == 0
    assert pixels.max() == 255


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_float_tiff_is_scaled_by_its_range(white: float) -> None:
    values = np.linspace(0, white, 600, dtype=np.float32).reshape(20, 30)
    pixels = decode(encoded(Image.fromarray(values), "TIFF"))
    expected = np.linspace(0, 255, 600).reshape(20, 30)
    assert np.abs(pixels[..., 0] - expected).max() <= 0.51


def test_float_tiff_with_nan_and_negative_values_is_dark_there() -> None:
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0], values[1, 1] = np.nan, -3
    pixels = decode(encoded(Image.fromarray(values), "TIFF"))[..., 0]
    assert pixels[0, 0] == pixels[1, 1] == 0
    assert pixels[2, 2] == 128


@pytest.mark.parametrize(("highest", "white"), [(255, 255), (65535, 65535), (2**31 - 1, 2**31 - 1)])
def test_32_bit_integers_are_scaled_by_their_range(highest: int, white: int) -> None:
    values = np.linspace(0, highest, 600).astype(np.int32).reshape(20, 30)
    pixels = decode(Image.fromarray(values))[..., 0]
    assert np.abs(pixels - values * (255 / white)).max() <= 0.51


def test_alpha_is_laid_on_the_background() -> None:
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[:, 1, 3], rgba[:, 2, 3] = 128, 255
    pixels = decode(encoded(Image.fromarray(rgba), "PNG"), background=(0, 100, 0))
    assert pixels[0].tolist() == [[0, 100, 0], [100, 50, 0], [200, 0, 0]]
    assert decode(encoded(Image.fromarray(rgba), "PNG"))[0, 0].tolist() == [255, 255, 255]


def test_grey_with_alpha_is_laid_on_the_background() -> None:
    image = Image.merge("LA", [Image.new("L", (2, 2), 40), Image.new("L", (2, 2), 0)])
    assert (decode(encoded(image, "PNG"), background=(9, 8, 7)) == [9, 8, 7]).all()


def test_palette_gives_its_colours() -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert (decode(encoded(image, "PNG")) == [10, 200, 30]).all()


@pytest.mark.parametrize(("kind", "transparency"), [("GIF", 1), ("PNG", 1), ("PNG", b"\xff\x00")])
def test_palette_with_transparency_shows_the_background(
    kind: str, transparency: int | bytes
) -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([50, 60, 70, 10, 200, 30])
    image.putpixel((3, 1), 1)
    pixels = decode(encoded(image, kind, transparency=transparency), background=(1, 2, 3))
    assert pixels[0, 0].tolist() == [50, 60, 70]
    assert pixels[1, 3].tolist() == [1, 2, 3]


def test_a_transparent_colour_of_rgb_shows_the_background() -> None:
    image = Image.new("RGB", (2, 2), (7, 7, 7))
    image.putpixel((0, 0), (200, 0, 0))
    pixels = decode(encoded(image, "PNG", transparency=(7, 7, 7)))
    assert pixels[0, 0].tolist() == [200, 0, 0]
    assert pixels[1, 1].tolist() == [255, 255, 255]


def test_cmyk_tiff() -> None:
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert decode(encoded(cmyk, "TIFF"))[0, 0].tolist() == [255, 0, 0]


def test_cmyk_jpeg_with_inverted_inks_as_adobe_writes_them() -> None:
    jpeg = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in jpeg
    red = decode(jpeg)[8, 8].astype(int)
    assert np.abs(red - [255, 0, 0]).max() < 8


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    moving = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode(moving)[4, 4].tolist() == [255, 0, 0]


# --- orientation ---------------------------------------------------------------------------------

# What a viewer must do to a stored image, by EXIF's table of where row 0 and column 0 lie.
UPRIGHT: dict[int, Any] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x010F] = "a camera"
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    pixels = decode(encoded(PHOTO, kind, exif=exif(orientation)))
    np.testing.assert_array_equal(pixels, UPRIGHT[orientation](RGB))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_exif_orientation_of_lossy_files(kind: str, orientation: int) -> None:
    plain = decode(encoded(PHOTO, kind))
    turned = decode(encoded(PHOTO, kind, exif=exif(orientation)))
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](plain))


def test_exif_orientation_of_an_opened_pillow_image() -> None:
    with Image.open(io.BytesIO(encoded(PHOTO, "PNG", exif=exif(6)))) as opened:
        np.testing.assert_array_equal(decode(opened), UPRIGHT[6](RGB))


def test_big_endian_exif_is_read() -> None:
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 3, 0)
    tags = b"Exif\0\0MM\0\x2a" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    np.testing.assert_array_equal(decode(encoded(PHOTO, "PNG", exif=tags)), UPRIGHT[3](RGB))


@pytest.mark.parametrize(
    "tags",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(9),
        exif(9),
        exif(0),
    ],
)
def test_broken_exif_is_as_good_as_none(tags: bytes) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode(encoded(PHOTO, "JPEG", exif=tags)).shape == RGB.shape
    assert not caught


# --- arrays --------------------------------------------------------------------------------------


def test_arrays_are_taken_as_they_are() -> None:
    np.testing.assert_array_equal(decode(RGB), RGB)
    np.testing.assert_array_equal(decode(RGB[::-1, ::2]), RGB[::-1, ::2])
    np.testing.assert_array_equal(decode(RGB[..., 0])[..., 2], RGB[..., 0])
    np.testing.assert_array_equal(decode(RGB[..., :1]), decode(RGB[..., 0]))
    np.testing.assert_array_equal(decode(RGB.astype(np.uint16) * 257), RGB)
    clear = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    assert (decode(clear, background=(1, 2, 3)) == [1, 2, 3]).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros(8, np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused_with_what_they_are(array: NDArray[Any]) -> None:
    with pytest.raises(ImageError, match=rf"got {array.dtype} \({array.shape[0]},"):
        decode(array)


def test_an_empty_array_is_refused() -> None:
    with pytest.raises(ImageError, match="0 × 0"):
        decode(np.zeros((0, 0, 3), np.uint8))


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"hello, I am text", "not an image. Known formats: JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp41", "not an image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "is JPEG 2000, which is not supported. Export it as JPEG"),
        (b"<?xml version='1.0'?>\n<svg xmlns=''/>", "is SVG, which is not supported"),
        (b"\x89PNG\r\n\x1a\nnothing more", "damaged"),
        (b"\xff\xd8\xff", "damaged"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "damaged"),
    ],
)
def test_what_is_not_an_image_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "thing.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        decode(path)
    assert str(caught.value).startswith(f"'{path}' cannot be read: ")
    with pytest.raises(ImageError, match=f"^The image cannot be read: .*{reason}"):
        decode(content)


def test_a_jpeg_that_lacks_only_its_end_is_whole() -> None:
    for options in ({}, {"progressive": True}, {"subsampling": 0, "quality": 30}):
        whole = encoded(Image.fromarray(LARGE), "JPEG", **options)
        for cut in (1, 2):
            found = decode_picture(whole[:-cut])
            np.testing.assert_array_equal(np.asarray(found.image), decode(whole))
            assert found.mended
            assert decode_picture(whole[:-cut], shorter_side=30).image.size == (80, 60)
        assert not decode_picture(whole).mended
        with pytest.raises(ImageError, match="truncated"):
            decode(whole[:-20])


@pytest.mark.parametrize("blocks", [1, 3, 40])
def test_a_jpeg_with_restart_markers_is_whole_or_refused(blocks: int) -> None:
    whole = encoded(PHOTO, "JPEG", restart_marker_blocks=blocks, quality=90)
    np.testing.assert_array_equal(decode(whole[:-2]), decode(whole))
    for cut in range(3, 60):
        try:
            found = decode(whole[:-cut])
        except ImageError:
            continue
        np.testing.assert_array_equal(found, decode(whole))


def test_a_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    whole = encoded(Image.fromarray(LARGE), "JPEG", progressive=True)
    with pytest.raises(ImageError, match="truncated"):
        decode(whole[: whole.rindex(b"\xff\xda")])


def test_a_kind_that_is_not_supported_is_not_called_damaged() -> None:
    data = tiff(np.zeros((4, 4, 5), np.uint8), 8, 1, samples=5)
    with pytest.raises(
        ImageError, match=r"SamplesPerPixel \(tag 277\) is 5.* not supported\. Save it"
    ):
        decode(data)


def test_want_of_memory_is_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: object) -> None:
        raise MemoryError

    data = encoded(PHOTO, "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(MemoryError):
        decode(data)


def test_an_open_file_is_read_within_the_limit() -> None:
    data = encoded(PHOTO, "PNG")
    np.testing.assert_array_equal(decode(io.BytesIO(data)), RGB)
    with pytest.raises(ImageError, match=r"gives str, not bytes. Open it in binary mode"):
        decode(io.StringIO("text"))  # type: ignore[arg-type]


def test_a_path_that_is_no_file_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "queue.jpg")
    with pytest.raises(ImageError, match=r"queue\.jpg' cannot be read: it is a named pipe, not"):
        decode(tmp_path / "queue.jpg")
    with pytest.raises(ImageError, match="it is a device, not a file"):
        decode("/dev/zero")
    with pytest.raises(ImageError, match="Is a directory"):
        decode(tmp_path)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_truncated_files_are_refused(kind: str, keep: float) -> None:
    whole = encoded(Image.fromarray(picture(64, 64)), kind)
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        decode(whole[: int(keep * len(whole))])


def test_a_truncated_jpeg_is_refused_when_scaled() -> None:
    whole = encoded(Image.fromarray(picture(256, 256)), "JPEG")
    with pytest.raises(ImageError, match="truncated"):
        decode(whole[: len(whole) // 2], shorter_side=16)


def test_a_flipped_bit_in_a_png_is_noticed() -> None:
    data = bytearray(encoded(PHOTO, "PNG"))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(ImageError, match="damaged"):
        decode(bytes(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM"])
@given(data=st.data())
def test_damage_anywhere_gives_an_image_or_a_clear_refusal(kind: str, data: st.DataObject) -> None:
    options = {"exif": exif(6)} if kind in ("JPEG", "PNG", "WEBP") else {}
    whole = bytearray(encoded(PHOTO, kind, **options))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decode(bytes(whole), max_pixels=100_000).shape[2] == 3
    except ImageError as error:
        assert str(error).startswith("The image cannot be read: it ")  # noqa: PT017


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no\.jpg' cannot be read: No such file or directory\.$"):
        decode(tmp_path / "no.jpg")
    with pytest.raises(ImageError, match="cannot be read: "):
        decode(tmp_path)


def test_other_types_are_refused() -> None:
    with pytest.raises(ImageError, match=r"expected a path, bytes, .* got int"):
        decode(5)  # type: ignore[arg-type]


def claims(kind: str, side: int) -> bytes:
    """Return a small file whose header claims side × side pixels."""
    if kind == "PNG":
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunk = b"IHDR" + header
        start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
        body = zlib.compress(bytes(1000))
        data = struct.pack(">I", len(body)) + b"IDAT" + body
        return start + struct.pack(">I", zlib.crc32(chunk)) + data + bytes(4)
    small = bytearray(encoded(Image.new("RGB", (16, 16)), kind))
    if kind == "JPEG":
        place = small.index(b"\xff\xc0") + 5
        small[place : place + 4] = struct.pack(">HH", side, side)
    if kind == "GIF":
        small[6:10] = struct.pack("<HH", side, side)
    if kind == "BMP":
        small[18:26] = struct.pack("<ii", side, side)
    return bytes(small)


# Pillow would warn about the first size and refuse the second one by itself.
@pytest.mark.parametrize("side", [12_000, 60_000])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_bomb_is_refused_by_its_header_alone(
    kind: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ImageError, match=f"{side} × {side} = .* more than the limit"):
            decode(claims(kind, side))
    assert not caught


def test_the_limit_can_be_moved() -> None:
    data = encoded(PHOTO, "PNG")
    with pytest.raises(ImageError, match="30 × 20 = 600 pixels, more than the limit of 599"):
        decode(data, max_pixels=599)
    assert decode(data, max_pixels=600).shape == RGB.shape
    for source in (RGB, PHOTO):
        with pytest.raises(ImageError, match=r"limit of 599\. Shrink it, or raise max_pixels"):
            decode(source, max_pixels=599)


# --- scaled decoding -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shorter_side", "size"),
    [(None, (800, 600)), (301, (800, 600)), (300, (800, 600)), (150, (400, 300)), (75, (200, 150)),
     (37, (100, 75)), (1, (100, 75))],
)  # fmt: skip
def test_a_scaled_jpeg_keeps_twice_the_shorter_side(
    shorter_side: int | None, size: tuple[int, int]
) -> None:
    data = encoded(Image.fromarray(picture(600, 800)), "JPEG")
    assert decode_picture(data, shorter_side=shorter_side).image.size == size


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_box_of_a_scaled_jpeg_turns_with_it(orientation: int) -> None:
    # 85 × 61 at a quarter: 22 × 16 pixels, of which the picture fills 21.25 × 15.25.
    stored = Image.new("RGB", (85, 61), "black")
    data = encoded(stored, "JPEG", exif=exif(orientation))
    picture = decode_picture(data, shorter_side=7)
    # Mark what is filled on a fine grid, and turn that as a viewer would.
    fine = np.zeros((16 * 4, 22 * 4), bool)
    fine[:61, :85] = True
    rows, columns = np.nonzero(UPRIGHT[orientation](fine))
    filled = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert picture.box == tuple(edge / 4 for edge in filled)
    assert picture.image.size == UPRIGHT[orientation](fine[::4, ::4]).shape[::-1]


def test_only_jpeg_is_scaled() -> None:
    assert decode_picture(encoded(PHOTO, "PNG"), shorter_side=2).image.size == (30, 20)


def test_a_pillow_image_is_left_as_it_was() -> None:
    with Image.open(io.BytesIO(encoded(PHOTO, "JPEG"))) as opened:
        decode(opened, shorter_side=2)
        assert opened.size == (30, 20)
