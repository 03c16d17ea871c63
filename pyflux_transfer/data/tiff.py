"""What a TIFF's tags say of its pixels: does Pillow read such right, and if not, can `strips`?"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pyflux_transfer.data.levels import Values

WIDTH, HEIGHT, BITS, PACKING, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, ORIENTATION, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANAR = 273, 274, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 317, 322, 323, 324, 325
INK_SET, EXTRA, KIND, HIGHEST, PROFILE = 332, 338, 339, 341, 34675
_NAMES = {
    BITS: "BitsPerSample", PACKING: "Compression", PHOTOMETRIC: "PhotometricInterpretation",
    SAMPLES: "SamplesPerPixel", PLANAR: "PlanarConfiguration", PREDICTOR: "Predictor",
    INK_SET: "InkSet", EXTRA: "ExtraSamples", KIND: "SampleFormat", STRIPS: "StripOffsets",
}  # fmt: skip
_KINDS: dict[int, Literal["u", "i", "f"]] = {1: "u", 2: "i", 3: "f", 4: "u"}  # 4: not said
WHOLE = {8, 16, 32, 64}  # bits of values that need no unpacking
_BITS = {"u": {*range(1, 17), 32, 64}, "i": WHOLE, "f": {16, 32, 64}}
_COLORS = {0: 1, 1: 1, 2: 3, 5: 4}  # photometric interpretation → samples of colour
_GREY, _RGB, _CMYK = (0, 1), 2, 5
_MEANINGS = {
    3: "a palette", 4: "a mask", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab",
    32803: "a camera's raw mosaic", 32844: "LogL", 32845: "LogLuv", 34892: "a camera's raw",
}  # fmt: skip
_PACKED = {
    34712: "JPEG 2000", 34887: "LERC", 34933: "PNG", 50001: "WebP", 50002: "JPEG XL",
}  # fmt: skip
_PACKINGS = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, Deflate, PackBits, LZMA, Zstandard
_PILLOWS = {2, 3, 4, 6, 7}  # of fax and JPEG
_MOST_EXTRA = 32  # samples behind colours
UNSPECIFIED, PREMULTIPLIED, ALPHA = 0, 1, 2
_BIG_MM = b"MM\0+"
NONE, DIFFERENCES, FLOATS = 1, 2, 3  # predictors


@dataclass(frozen=True)
class Layout:
    """How a file says that its pixels lie."""

    tags: Any  # Pillow's directory: numbers, or tuples of them
    order: Literal["<", ">"]
    turned: bool = False  # a BigTIFF of an order of bytes that Pillow does not know it by

    @classmethod
    def of(cls, data: bytes) -> Layout:
        """Return that of the first picture."""
        from PIL.TiffImagePlugin import ImageFileDirectory_v2

        stream = io.BytesIO(data)
        header = stream.read(16 if 43 in data[2:4] else 8)
        turned = header.startswith(_BIG_MM)
        # Pillow knows by the other order's mark alone that the header is a BigTIFF's.
        known, order = (b"II+\0" + header[4:], b"MM") if turned else (header, None)
        directory = ImageFileDirectory_v2(known, order)
        stream.seek(directory.next)
        directory.load(stream)
        return cls(directory, "<" if data[:2] == b"II" else ">", turned)

    def all(self, tag: int) -> tuple[Any, ...]:
        """Return the values of a tag, none where it is not there."""
        value = self.tags.get(tag, ())
        return value if isinstance(value, tuple) else (value,)

    def one(self, tag: int, usual: int = 1) -> int:
        """Return the first value of a tag."""
        return int((self.all(tag) or (usual,))[0])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as stored."""
        return self.one(WIDTH, 0), self.one(HEIGHT, 0)

    @property
    def bits(self) -> int:
        """Bits of a sample, the first one's."""
        return self.one(BITS)

    @property
    def samples(self) -> int:
        """Samples of a pixel."""
        return self.one(SAMPLES)

    @property
    def separate(self) -> bool:
        """Whether each sample has a plane of its own."""
        return self.one(PLANAR) == 2 and self.samples > 1

    @property
    def plain(self) -> bool:
        """Whether Pillow may be asked: of other values it has no mode, or reads some wrongly."""
        separate = self.separate and self.one(PACKING) == 1
        known = not (self.turned or separate or self.one(INK_SET) != 1)
        return known and self.bits <= 8 and self.one(KIND) == 1

    @property
    def doubtful(self) -> bool:
        """Whether the compression is one that Pillow is mostly built without."""
        return self.one(PACKING) not in {*_PACKINGS, *_PILLOWS}

    @property
    def extra(self) -> tuple[int, ...]:
        """What the samples behind the colours are; one behind RGB that is not told is alpha."""
        count = self.samples - self.colors
        unsaid = ALPHA if self.one(PHOTOMETRIC) == _RGB and count == 1 else UNSPECIFIED
        return (*map(int, self.all(EXTRA)), *[unsaid] * count)[:count]

    @property
    def kind(self) -> Literal["u", "i", "f"]:
        """Whether values are unsigned, signed, or floats."""
        return _KINDS[self.one(KIND)]

    @property
    def colors(self) -> int:
        """Samples of colour."""
        return _COLORS[self.one(PHOTOMETRIC)]

    @property
    def said(self) -> Values:
        """What the values are, sign, bits and all."""
        highest = self.all(HIGHEST)
        top = float(highest[0]) if highest and isinstance(highest[0], (int, float)) else 0.0
        return Values(self.bits, self.kind, self.one(PHOTOMETRIC) == 0, top)

    @property
    def need(self) -> int:
        """Bytes that reading takes here: an estimate that is not exceeded."""
        width, height = self.size
        value = self.bits // 8 if self.bits in WHOLE else 4
        return width * height * (self.samples * (4 * value + 2) + 12)

    @cached_property
    def trouble(self) -> str:
        """Why this is not read here; nothing where it is."""
        tag, why = next(self._troubles(), (0, ""))
        if not why:
            return ""
        return (
            f"its {_NAMES[tag]} (tag {tag}) {why}, which is not supported. Save it as RGB or grey, "
            "with Deflate or no compression, or export it as PNG."
        )

    def _troubles(self) -> Iterator[tuple[int, str]]:
        """Yield the tags that stand in the way, and what they say."""
        photometric, packing = self.one(PHOTOMETRIC, -1), self.one(PACKING)
        bits = _listed(self.all(BITS) or (1,))
        if packing not in _PACKINGS:
            meaning = f" ({_PACKED[packing]})" if packing in _PACKED else ""
            yield PACKING, f"is {packing}{meaning}, with {bits} bits a sample"
        if photometric not in _COLORS:
            meaning = f" ({_MEANINGS[photometric]})" if photometric in _MEANINGS else ""
            said = "is missing" if photometric < 0 else f"is {photometric}{meaning}"
            yield PHOTOMETRIC, f"{said}, with {bits} bits a sample"
            return
        if photometric == _CMYK and self.one(INK_SET) != 1:
            yield INK_SET, f"is {self.one(INK_SET)}: other inks than CMYK"
        kinds = set(self.all(KIND))
        if len(kinds) > 1 or self.one(KIND) not in _KINDS:
            complex_ = " (complex numbers)" if kinds & {5, 6} else ""
            yield KIND, f"is {_listed(self.all(KIND))}{complex_}"
            return
        kind = self.kind
        if len(set(self.all(BITS))) > 1 or self.bits not in _BITS[kind]:
            yield BITS, f"is {bits}, with SampleFormat {self.one(KIND)}"
        more = self.samples - _COLORS[photometric]
        if not 0 <= more <= (1 if photometric in _GREY else _MOST_EXTRA):
            yield SAMPLES, f"is {self.samples}, with PhotometricInterpretation {photometric}"
        if self.one(PLANAR) not in (1, 2):
            yield PLANAR, f"is {self.one(PLANAR)}"
        predictor = self.one(PREDICTOR)
        fits = {NONE: True, DIFFERENCES: self.bits in WHOLE, FLOATS: kind == "f"}
        if not fits.get(predictor, False):
            yield PREDICTOR, f"is {predictor}, with {bits} bits a sample"
        if not (self.all(STRIPS) or self.all(TILES)):
            yield STRIPS, "is missing"


def _listed(values: tuple[Any, ...]) -> str:
    """Return numbers as text: one for all where they are equal."""
    return str(values[0]) if len(set(values)) == 1 else ", ".join(map(str, values))
