"""Files with all their pixels, but with something else amiss, made readable.

Tried only where a file could not be read as it is.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf", b"iCCP"}
_PROFILE_BYTES = 2**20
_EOI = b"\xff\xd9"


def without_extras(png: bytes) -> bytes:
    """Return a PNG without texts, large profiles, and what is damaged but is no pixel."""
    kept = [png[start:end] for kind, start, end in _chunks(png) if _keep(png, kind, start, end)]
    return b"".join([_SIGNATURE, *kept])


def _chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk and where it begins and ends."""
    start = len(_SIGNATURE)
    while start + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, start)
        yield png[start + 4 : start + 8], start, start + 12 + length
        start += 12 + length


def _keep(png: bytes, kind: bytes, start: int, end: int) -> bool:
    if kind not in _NEEDED:
        return not kind[:1].islower()  # unknown, but said to matter: for the reader to refuse
    if not kind[:1].islower():
        return True
    body = png[start + 8 : end - 4]
    whole = png[end - 4 : end] == struct.pack(">I", zlib.crc32(kind + body))
    return whole and (kind != b"iCCP" or _profile_is_small(body))


def _profile_is_small(body: bytes) -> bool:
    try:
        stream = zlib.decompressobj()
        stream.decompress(body[body.index(b"\0") + 2 :], _PROFILE_BYTES)
    except (ValueError, zlib.error):
        return False
    return not stream.unconsumed_tail


def endings(jpeg: bytes) -> list[bytes]:
    """Return a cut JPEG with several made-up ends, none where whole scans are missing.

    Where they all decode to the same picture, what was cut off held no pixel.
    """
    body = jpeg.rstrip(b"\xff")
    if not _all_scans_begun(body):
        return []
    fills = [b"", *(byte * 512 for byte in (b"\x55", b"\xaa"))]
    if b"\xff\xdd" in body:  # it has restart markers: the next one may be what comes
        done = len(_RESTART.findall(body, body.rindex(b"\xff\xda")))
        fills += [b"\xff" + bytes([0xD0 + done % 8]) + fill for fill in fills]
    return [body + fill + _EOI for fill in fills]


def _all_scans_begun(jpeg: bytes) -> bool:
    """Tell whether the scans that are there bring every coefficient to its last bit."""
    components = 0
    begun: set[tuple[int, int]] = set()  # (component, coefficient)
    for marker, segment in _segments(jpeg):
        if marker in (0xC0, 0xC1, 0xC2) and len(segment) > 5:
            components = segment[5]
        if marker == 0xDA and segment:
            count = segment[0]
            if len(segment) < 4 + 2 * count:
                return False
            first, last, bits = segment[1 + 2 * count : 4 + 2 * count]
            if not bits & 15:
                named = segment[1 : 1 + 2 * count : 2]
                begun |= {(name, k) for name in named for k in range(first, min(last, 63) + 1)}
    return 0 < 64 * components == len(begun)


_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_NEXT_MARKER = re.compile(rb"\xff+[^\xff\0\xd0-\xd7]")


def _segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the markers of a JPEG and what follows them, the compressed data left out."""
    place = 2
    while found := _NEXT_MARKER.search(jpeg, place):
        marker, start = found[0][-1], found.end()
        if marker in (0x01, 0xD8, 0xD9) or start + 2 > len(jpeg):
            place = start
            continue
        (length,) = struct.unpack_from(">H", jpeg, start)
        yield marker, jpeg[start + 2 : start + length]
        place = start + max(length, 2)
