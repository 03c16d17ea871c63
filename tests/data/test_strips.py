"""TIFFs of any layout come out right, or are refused with the tag that stands in the way."""

from __future__ import annotations

import struct
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyflux_transfer.data import apart, decode, guard, strips
from pyflux_transfer.data.tiff import Layout
from pyflux_transfer.errors import ImageError
from tests.data.pictures import Pixels, picture
from tests.data.tiffs import DEFLATE, DIFFERENCES, FLOATS, LZW, PACKBITS, STORED, tiff

COLORS = picture(37, 53)
GREY = COLORS[..., :1]
ALPHA = picture(37, 53, seed=1)[..., :1]
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
LAYOUTS: list[dict[str, Any]] = [
    {}, {"rows": 99}, {"tile": (16, 16)}, {"tile": (64, 48)}, {"separate": True},
    {"separate": True, "tile": (32, 16)},
]  # fmt: skip


def of(form: str, levels: Pixels) -> NDArray[Any]:
    """Return levels as values of a type, white as the highest or, of floats, as 1."""
    if form[0] == "f":
        return (levels / 255).astype(form)
    top = np.iinfo(form).max
    return (levels.astype(np.float64) / 255 * top).round().clip(0, top).astype(form)


def check(data: bytes, wanted: NDArray[Any], levels: float = 1) -> None:
    found = decode.decode(data, background=(9, 9, 9))
    assert np.abs(found.astype(float) - wanted).max() <= levels


@pytest.mark.parametrize("form", ["u1", "u2", "u4", "i2", "f2", "f4", "f8"])
@pytest.mark.parametrize("packing", [STORED, LZW, DEFLATE, PACKBITS])
def test_values_lie_in_strips_or_tiles_in_one_plane_or_several(form: str, packing: int) -> None:
    values = of(form, COLORS)
    for layout, order in product(LAYOUTS, "<>"):
        check(tiff(values, RGB, order=order, packing=packing, **layout), COLORS)
        if not layout.get("separate"):
            grey = tiff(values[..., :1], BLACK_IS_ZERO, order=order, packing=packing, **layout)
            check(grey, np.repeat(GREY, 3, -1))


@pytest.mark.parametrize(
    ("form", "predictor"),
    [("u1", DIFFERENCES), ("u2", DIFFERENCES), ("i2", DIFFERENCES), ("u4", DIFFERENCES),
     ("f4", DIFFERENCES), ("f2", FLOATS), ("f4", FLOATS), ("f8", FLOATS)],
)  # fmt: skip
def test_predictors_are_undone(form: str, predictor: int) -> None:
    for layout, order, packing in product(LAYOUTS, "<>", (LZW, DEFLATE)):
        given = {"order": order, "packing": packing, "predictor": predictor, **layout}
        check(tiff(of(form, COLORS), RGB, **given), COLORS)


@pytest.mark.parametrize("bits", [3, 6, 9, 10, 12, 14, 15])
def test_bits_may_be_packed_across_bytes(bits: int) -> None:
    top = 2**bits - 1
    values = (COLORS.astype(np.uint32) * top // 255).astype(np.uint16)
    wanted = values.astype(float) / top * 255
    for packing in (STORED, LZW):
        check(tiff(values, RGB, bits=bits, packing=packing), wanted)
        check(tiff(values[..., :1], BLACK_IS_ZERO, bits=bits, tile=(16, 16)), wanted[..., :1])


@pytest.mark.parametrize("form", ["u1", "u2", "f4"])
def test_zero_is_white_where_the_file_says_so(form: str) -> None:
    check(tiff(of(form, GREY), WHITE_IS_ZERO, tile=(16, 16)), 255 - np.repeat(GREY, 3, -1))


@pytest.mark.parametrize("form", ["u1", "u2", "u4", "f4"])
@pytest.mark.parametrize("separate", [False, True])
def test_samples_behind_the_colours_are_alpha_or_nothing(form: str, separate: bool) -> None:
    plain, opacity = of(form, np.dstack([COLORS, ALPHA])), ALPHA / 255
    laid = COLORS * opacity + 9 * (1 - opacity)
    check(tiff(plain, RGB, separate=separate, t338=(2,)), laid, 2)
    check(tiff(plain, RGB, separate=separate, t338=(0,)), COLORS)
    both = of(form, np.dstack([COLORS, ALPHA, GREY]))
    check(tiff(both, RGB, t338=(2, 0)), laid, 2)
    check(tiff(both, RGB, separate=separate, t338=(0, 0)), COLORS)
    if form != "u1":  # which loses too much
        multiplied = of(form, np.dstack([np.round(COLORS * opacity), ALPHA]).astype(np.uint8))
        solid = ALPHA[..., 0] > 64
        found = decode.decode(tiff(multiplied, RGB, t338=(1,)), background=(9, 9, 9))
        assert np.abs(found.astype(float) - laid)[solid].max() <= 3


@pytest.mark.parametrize("form", ["u2", "f4"])
@pytest.mark.parametrize("separate", [False, True])
def test_inks_are_those_of_8_bits(form: str, separate: bool) -> None:
    inks = np.dstack([COLORS, ALPHA])
    wanted = decode.decode(tiff(inks, CMYK))
    check(tiff(of(form, inks), CMYK, separate=separate), wanted)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_large_file_s_form_is_read(order: str) -> None:
    for form, layout in product(("u1", "u2"), LAYOUTS):
        check(tiff(of(form, COLORS), RGB, order=order, big=True, **layout), COLORS)


def test_what_is_not_said_is_as_usual() -> None:
    values = of("u2", COLORS)
    check(tiff(values, RGB, t339=(4,)), COLORS)  # "undefined" means unsigned
    check(tiff(values, RGB, packing=LZW, t279=()), COLORS)  # sizes of the strips
    check(tiff(values, RGB, t274=(6,)), np.rot90(COLORS, -1))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (tiff(of("f4", GREY), BLACK_IS_ZERO, t339=(6,)), "SampleFormat (tag 339) is 6 (complex"),
        (tiff(of("u2", COLORS), RGB, t258=(16, 16, 8)), "BitsPerSample (tag 258) is 16, 16, 8"),
        (tiff(of("u2", GREY), BLACK_IS_ZERO, t258=(24,)), "BitsPerSample (tag 258) is 24"),
        (tiff(of("f4", GREY), BLACK_IS_ZERO, t258=(24,)), "BitsPerSample (tag 258) is 24, with S"),
        (tiff(of("u2", GREY), 32803), "(tag 262) is 32803 (a camera's raw mosaic), with 16 bits"),
        (tiff(of("u2", GREY), PALETTE), "(tag 262) is 3 (a palette), with 16 bits"),
        (tiff(of("u2", GREY), 1, t262=()), "PhotometricInterpretation (tag 262) is missing"),
        (tiff(of("u2", COLORS), BLACK_IS_ZERO), "SamplesPerPixel (tag 277) is 3, with"),
        (tiff(COLORS, BLACK_IS_ZERO), "SamplesPerPixel (tag 277) is 3, with"),
        (tiff(of("u2", GREY), RGB, t277=(36,)), "SamplesPerPixel (tag 277) is 36, with"),
        (tiff(of("u2", GREY), RGB), "SamplesPerPixel (tag 277) is 1, with"),
        (tiff(of("u2", np.dstack([COLORS, ALPHA])), CMYK, t332=(2,)), "InkSet (tag 332) is 2"),
        (tiff(of("u2", GREY), 1, t259=(34712,)), "Compression (tag 259) is 34712 (JPEG 2000)"),
        (tiff(GREY, 1, t259=(34887,)), "Compression (tag 259) is 34887 (LERC), with 8 bits"),
        (tiff(of("u2", GREY), 1, t317=(3,)), "Predictor (tag 317) is 3, with 16 bits"),
        (tiff(of("u2", GREY), 1, t317=(34892,)), "Predictor (tag 317) is 34892"),
        (tiff(of("u2", COLORS), RGB, t284=(3,)), "PlanarConfiguration (tag 284) is 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_right_is_refused_by_its_tag(data: bytes, says: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode.decode(data)
    assert says in str(caught.value)
    assert "not supported. Save it as RGB or grey" in str(caught.value)


def test_limits_hold_before_a_pixel_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "image", None)
    with pytest.raises(ImageError, match="53 × 37 = 1,961 pixels, more than the limit of 1,960"):
        decode.decode(tiff(of("f4", COLORS), RGB), max_pixels=1960)
    with pytest.raises(ImageError, match="tiles are 3000 pixels wide, and the image is 53"):
        decode.decode(tiff(of("f4", COLORS), RGB, tile=(16, 16), t322=(3000,)))
    with pytest.raises(ImageError, match=r"parts have .* bytes together, and the file"):
        decode.decode(tiff(of("f4", COLORS), RGB, t279=(10**6,) * 6))
    with pytest.raises(ImageError, match="sides are as 5,000 to 1"):
        decode.decode(tiff(np.zeros((1, 5000, 3), np.uint16), RGB))


def test_memory_is_asked_for_and_much_of_it_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked = tiff(of("u2", COLORS), RGB), list[int]()
    decode.decode_picture(data, admit=asked.append)
    assert asked == [Layout.of(data).need]
    assert asked[0] > 2 * data.__len__()
    monkeypatch.setattr(guard, "HEAVY_BYTES", 1000)
    real, sent = apart.decode, list[bytes]()
    monkeypatch.setattr(apart, "decode", lambda *a: sent.append(a[0]) or real(*a))
    check(data, COLORS)
    assert sent == [data]


def test_missing_bytes_are_told() -> None:
    values = of("f4", COLORS)
    last = len(tiff(values, RGB, rows=37)) - 100
    for broken in (
        tiff(values, RGB, rows=37).replace(struct.pack("<HHII", 273, 4, 1, 8),
                                          struct.pack("<HHII", 273, 4, 1, last)),
        tiff(values, RGB, rows=37, packing=LZW, t279=(50,)),
        tiff(values, RGB, t278=(5,)),
    ):  # fmt: skip
        with pytest.raises(ImageError, match="truncated or damaged"):
            decode.decode(broken)
