"""The size of a picture out of its first bytes, without decoding it.

A picture of a few kilobytes can stand for gigabytes of pixels, which OpenCV would allocate; ``find_size`` says how many there
will be. It knows the formats that are taken. Any thread may call it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS: Final = "JPEG, PNG, BMP, GIF, TIFF, WebP"


class Size(NamedTuple):
    """In pixels."""

    width: int
    height: int


def find_size(data: bytes) -> Size | None:
    """The size that a picture says it has; None if it is of another format or cut off."""
    for start, reader in _READERS:
        if data.startswith(start):
            try:
                return reader(data)
            except (struct.error, IndexError):
                return None
    return None


def _png(data: bytes) -> Size | None:
    """``IHDR`` has to be the first chunk (PNG specification, 5.6).

    OpenCV allocates as many bytes as a chunk says it has, up to 4 GiB, before it looks whether there are so many.
    """
    if data[12:16] != b"IHDR":
        return None
    kind, position = b"", 8
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
    return Size(*struct.unpack_from(">II", data, 16)) if position <= len(data) else None


_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg(data: bytes) -> Size | None:
    """The frame header, whichever of the 13 kinds it is (ITU-T T.81, B.2.2)."""
    position = 2
    while (position := data.find(b"\xff", position)) >= 0:
        marker = data[position + 1]
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return Size(width, height)
        if marker in _STANDALONE:
            position += 2
        elif marker in (0x00, 0xFF):  # filling
            position += 1
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None


def _gif(data: bytes) -> Size:
    return Size(*struct.unpack_from("<HH", data, 6))


def _bmp(data: bytes) -> Size:
    is_os2 = struct.unpack_from("<I", data, 14)[0] == 12  # noqa: PLR2004 - the length of that header
    width, height = struct.unpack_from("<HH" if is_os2 else "<ii", data, 18)
    return Size(abs(width), abs(height))


def _webp(data: bytes) -> Size | None:
    """One of three kinds of first chunk (WebP container specification; RFC 6386, 9.1)."""
    kind = data[8:16]
    if kind == b"WEBPVP8X":
        return Size(1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
    if kind == b"WEBPVP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return Size(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Size(width & 0x3FFF, height & 0x3FFF)
    return None


_TIFF_TYPES: Final = {3: "H", 4: "I"}  # SHORT and LONG


def _tiff(data: bytes) -> Size | None:
    """Tags 256 and 257 of the first directory; of several the largest (TIFF 6.0, section 2)."""
    order = "<" if data.startswith(b"II") else ">"
    start = struct.unpack_from(order + "I", data, 4)[0]
    sizes = {256: 0, 257: 0}
    for index in range(struct.unpack_from(order + "H", data, start)[0]):
        tag, kind = struct.unpack_from(order + "HH", data, start + 2 + 12 * index)
        if tag in sizes:
            if kind not in _TIFF_TYPES:
                return None
            value = struct.unpack_from(order + _TIFF_TYPES[kind], data, start + 10 + 12 * index)[0]
            sizes[tag] = max(sizes[tag], value)
    return Size(*sizes.values())


_READERS: Final[tuple[tuple[bytes, Callable[[bytes], Size | None]], ...]] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"BM", _bmp),
    (b"GIF8", _gif),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"RIFF", _webp),
)
