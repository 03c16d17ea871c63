"""The size that a JPEG XL file states: its plug-in for Pillow decodes before it tells."""

from __future__ import annotations

from collections.abc import Iterator

from pyflux_transfer.errors import ImageError

_CODESTREAM = b"\xff\x0a"
_WIDTHS = (9, 13, 18, 30)  # bits of a side, by the selector before it
# Width to height, by the three bits between them; 0 means that the width is written out.
_RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def size(data: bytes) -> tuple[int, int]:
    """Return width and height from the codestream's header (ISO/IEC 18181-1, SizeHeader).

    Raises ImageError where there is none.
    """
    stream = data if data.startswith(_CODESTREAM) else next(_codestreams(data), b"")
    if not stream.startswith(_CODESTREAM) or len(stream) < 16:
        raise ImageError("it is damaged (no JPEG XL codestream).")
    bits = int.from_bytes(stream[2:16], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & (1 << count) - 1
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take(_WIDTHS[take(2)]) + 1

    height = side()
    across, down = _RATIOS[take(3)]
    return (height * across // down if across else side()), height


def _codestreams(data: bytes) -> Iterator[bytes]:
    """Yield what the boxes of a container hold that may begin a codestream."""
    place = 0
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        start = place + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        if kind in (b"jxlc", b"jxlp"):
            yield data[start + 4 * (kind == b"jxlp") :][:64]
        if length < 8:  # to the end
            return
        place += length
