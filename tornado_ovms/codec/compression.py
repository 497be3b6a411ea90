"""gzip and deflate: bodies of requests unpacked within a limit, answers packed.

Any thread may call it; the work is done without the GIL.
"""

from __future__ import annotations

import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tornado_ovms.core.settings import Limits

LEVEL: Final = 1
"""Numbers in JSON gain little from more: level 6 takes four times as long for a tenth less."""

CODINGS: Final = MappingProxyType({"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS})
"""Content codings of answers, the better one first, with the form that zlib gives to each (RFC 1952, RFC 1950)."""

_ANY: Final = zlib.MAX_WBITS | 32
"""gzip or zlib (RFC 1952, RFC 1950), by what the data begins with."""

_GZIP_MAGIC: Final = 0x1F8B
_ZLIB_METHOD: Final = 0x0800

_STEP: Final = 1 << 14
"""So much is unpacked at once: what a step has beyond the end of a member is copied, and members can be 20 bytes long."""

_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})


def pack(pieces: Iterable[bytes | memoryview], coding: str) -> list[bytes]:
    """A body in one of ``CODINGS``."""
    packer = zlib.compressobj(LEVEL, wbits=CODINGS[coding])
    packed = [packer.compress(piece) for piece in pieces]
    packed.append(packer.flush())
    return [piece for piece in packed if piece]


def unpack(body: bytes, encoding: str, limits: Limits) -> bytes:
    """A body without its content codings (RFC 9110 §8.4).

    Codings that are not known here leave the body as it is, and so do gzip and deflate if it is not compressed at all: the
    reference looks at none of them, so that clients may name what they like.

    Raises:
        Failure: CONTENT_ENCODING_INVALID, or BODY_TOO_LARGE as soon as more than ``limits.body_bytes`` come out.
    """
    for coding in reversed(encoding.lower().split(",")):
        if coding.strip() in _PACKED:
            body = _inflate(body, limits.body_bytes)
    return body


def _inflate(body: bytes, limit: int) -> bytes:
    """All members of a gzip body, or the one stream of a deflate body, which some clients send without zlib's header.

    Without a header there is nothing to tell such a stream from a body that is not compressed; what is none is left as it is.
    """
    if _begins_as_packed(body):
        return _unpack_members(body, _ANY, limit)
    try:
        return _unpack_members(body, -zlib.MAX_WBITS, limit)
    except Failure as failure:
        if failure.code is Code.BODY_TOO_LARGE:
            raise
        return body


def _unpack_members(body: bytes, window: int, limit: int) -> bytes:
    """The streams of one kind that follow each other."""
    unpacker = zlib.decompressobj(window)
    pieces: list[bytes] = []
    size = position = 0
    while position < len(body):
        if unpacker.eof:
            unpacker = zlib.decompressobj(window)
        step = body[position : position + _STEP]
        try:
            piece = unpacker.decompress(step, limit - size + 1)
        except zlib.error as error:
            raise Failure(Code.CONTENT_ENCODING_INVALID, f"Expected: gzip or deflate; Actual: {error}") from error
        size += len(piece)
        if size > limit:
            raise Failure(Code.BODY_TOO_LARGE, f"Expected: {limit} bytes at most; Actual: more when unpacked")
        pieces.append(piece)
        position += len(step) - len(unpacker.unused_data)
    if not unpacker.eof:
        raise Failure(Code.CONTENT_ENCODING_INVALID, "Expected: gzip or deflate to its end; Actual: cut off")
    return b"".join(pieces)


def _begins_as_packed(body: bytes) -> bool:
    """Whether a body begins with the magic number of gzip or with a header of zlib, for whichever window (RFC 1950)."""
    head = int.from_bytes(body[:2], "big")
    return head == _GZIP_MAGIC or (head & 0x8F00 == _ZLIB_METHOD and head % 31 == 0)
