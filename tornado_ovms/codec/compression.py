"""gzip and deflate: bodies of requests unpacked within a limit, answers packed.

Any thread may call it, one at a time; the work is done without the GIL.
"""

from __future__ import annotations

import io
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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

STRIDE: Final = 1 << 24
"""``Unpacker`` stops whenever so many bytes more have come out."""

_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})


def pack(pieces: Iterable[bytes | memoryview], coding: str) -> list[bytes]:
    """A body in one of ``CODINGS``."""
    packer = zlib.compressobj(LEVEL, wbits=CODINGS[coding])
    packed = [packer.compress(piece) for piece in pieces]
    packed.append(packer.flush())
    return [piece for piece in packed if piece]


class Unpacker:
    """Frees a body of its content codings (RFC 9110 §8.4) step by step, so that what comes out can be counted meanwhile.

    Codings that are not known here leave the body as it is, and so do gzip and deflate if it is not compressed at all: the
    reference looks at none of them, so that clients may name what they like.

    Args:
        body: as received.
        encoding: its ``Content-Encoding``.
        limit: how many bytes may come out of each coding.

    Attributes:
        body: once the work is done, what has come out.
        size: bytes that have come out so far, of all codings together.
    """

    def __init__(self, body: bytes, encoding: str, limit: int) -> None:
        self.body = body
        self.size = 0
        self._limit = limit
        self._steps = self._undo([coding.strip() for coding in encoding.lower().split(",")])

    def work(self) -> bool:
        """Go on until ``STRIDE`` bytes more have come out; whether the work is done.

        Raises:
            Failure: CONTENT_ENCODING_INVALID, or BODY_TOO_LARGE as soon as more than the limit come out.
        """
        for _ in self._steps:
            return False
        return True

    def _undo(self, codings: list[str]) -> Iterator[None]:
        for coding in reversed(codings):
            if coding in _PACKED:
                yield from self._inflate()

    def _inflate(self) -> Iterator[None]:
        """All members of a gzip body, or the one stream of a deflate body, which some clients send without zlib's header.

        Without a header there is nothing to tell such a stream from a body that is not compressed; what is none is left as it is.
        """
        if _begins_as_packed(self.body):
            yield from self._unpack_members(_ANY)
            return
        try:
            yield from self._unpack_members(-zlib.MAX_WBITS)
        except Failure as failure:
            if failure.code is Code.BODY_TOO_LARGE:
                raise

    def _unpack_members(self, window: int) -> Iterator[None]:
        """The streams of one kind that follow each other."""
        unpacker = zlib.decompressobj(window)
        unpacked = io.BytesIO()  # whose value is not copied in the end
        position, stop = 0, STRIDE
        while position < len(self.body):
            if unpacker.eof:
                unpacker = zlib.decompressobj(window)
            step = self.body[position : position + _STEP]
            try:
                piece = unpacker.decompress(step, self._limit - unpacked.tell() + 1)
            except zlib.error as error:
                raise Failure(Code.CONTENT_ENCODING_INVALID, f"Expected: gzip or deflate; Actual: {error}") from error
            self.size += unpacked.write(piece)
            if unpacked.tell() > self._limit:
                raise Failure(Code.BODY_TOO_LARGE, f"Expected: {self._limit} bytes at most; Actual: more when unpacked")
            position += len(step) - len(unpacker.unused_data)
            if unpacked.tell() >= stop:
                stop += STRIDE
                yield
        if not unpacker.eof:
            raise Failure(Code.CONTENT_ENCODING_INVALID, "Expected: gzip or deflate to its end; Actual: cut off")
        self.body = unpacked.getvalue()


def _begins_as_packed(body: bytes) -> bool:
    """Whether a body begins with the magic number of gzip or with a header of zlib, for whichever window (RFC 1950)."""
    head = int.from_bytes(body[:2], "big")
    return head == _GZIP_MAGIC or (head & 0x8F00 == _ZLIB_METHOD and head % 31 == 0)
