"""Compressed bodies: what is unpacked, what is refused, and that neither costs more than the limit."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import pieces
from tornado_ovms.codec import compression
from tornado_ovms.codec.compression import STRIDE, Unpacker, pack
from tornado_ovms.core.settings import Limits
from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMITS = Limits(body_bytes=1000)
BODY = b'{"instances":[1,2,3]}'


def unpack(body: bytes, encoding: str, limits: Limits) -> bytes:
    """All of it."""
    unpacker = Unpacker(body, encoding, limits.body_bytes)
    while not unpacker.work():
        pass
    return unpacker.body


def deflate(body: bytes, wbits: int) -> bytes:
    """A body in one of zlib's formats."""
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(body) + packer.flush()


@given(pieces)
def test_what_is_packed_can_be_unpacked(pieces: Sequence[bytes]) -> None:
    """By us and by Python's own gzip; no piece is empty, since an empty one would end a chunked answer."""
    assert unpack(b"".join(pack(pieces, "deflate")), "deflate", LIMITS) == b"".join(pieces)
    packed = pack(pieces, "gzip")
    body = b"".join(pieces)
    assert all(packed)
    assert gzip.decompress(b"".join(packed)) == body
    assert unpack(b"".join(packed), "gzip", LIMITS) == body


@pytest.mark.parametrize("encoding", ["gzip", "GZip", "x-gzip", " gzip ", "deflate", "gzip, identity", "br,gzip"])
def test_gzip_by_all_its_names(encoding: str) -> None:
    """Names are compared without case; others beside it change nothing."""
    assert unpack(gzip.compress(BODY), encoding, LIMITS) == BODY


@pytest.mark.parametrize("wbits", [*range(9, 16), *range(-15, -8), *range(25, 32)])
def test_every_kind_of_deflate(wbits: int) -> None:
    """With zlib's header, which RFC 9110 asks for, without any, as some clients send it, and gzip; with every window."""
    assert unpack(deflate(BODY, wbits), "deflate", LIMITS) == BODY


@pytest.mark.parametrize("encoding", ["", "identity", "br", "zstd", "utf-8", "gzipped"])
def test_other_codings_leave_the_body_alone(encoding: str) -> None:
    """The reference looks at none of them, so that clients may name what they like."""
    assert unpack(BODY, encoding, LIMITS) is BODY
    assert unpack(gzip.compress(BODY, mtime=0), encoding, LIMITS) == gzip.compress(BODY, mtime=0)


def test_codings_are_undone_from_the_last() -> None:
    """They are named in the order in which they were applied."""
    assert unpack(gzip.compress(deflate(BODY, 15)), "deflate, gzip", LIMITS) == BODY


@given(pieces)
def test_members_follow_each_other(pieces: Sequence[bytes]) -> None:
    """A gzip file may have several, empty ones too."""
    packed = b"".join(map(gzip.compress, (b"", *pieces)))
    assert unpack(packed, "gzip", LIMITS) == b"".join(pieces)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(BODY)[:2], "cut off"),
        (gzip.compress(BODY)[:-1], "cut off"),
        (gzip.compress(BODY)[:12], "cut off"),
        (gzip.compress(BODY) + gzip.compress(BODY)[:15], "cut off"),
        (deflate(BODY, 15)[:-1], "cut off"),
        (gzip.compress(BODY) + b"garbage", "Error -3"),
        (gzip.compress(BODY)[:-8] + bytes(8), "incorrect data check"),
        (gzip.compress(BODY)[:-4] + bytes(4), "incorrect length check"),
    ],
)
def test_damaged_bodies_are_refused(body: bytes, reason: str) -> None:
    """Cut off, something else at the end, or of another check sum."""
    with pytest.raises(Failure) as caught:
        unpack(body, "gzip", LIMITS)
    assert caught.value.code is Code.CONTENT_ENCODING_INVALID
    assert reason in caught.value.detail


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, deflate"])
@pytest.mark.parametrize("body", [b"", b"{}", BODY, b"\r\n" + BODY])
def test_what_is_not_compressed_at_all_is_left_as_it_is(body: bytes, encoding: str) -> None:
    """The reference never looks at the header, so that some client may send it without meaning it."""
    assert unpack(body, encoding, LIMITS) == body


@given(st.binary() | st.binary().map(lambda data: gzip.compress(b"")[:10] + data), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_a_body_or_a_failure(body: bytes, encoding: str) -> None:
    """Nothing else is raised, and nothing comes back that is too large."""
    try:
        assert len(unpack(body, encoding, LIMITS)) <= LIMITS.body_bytes
    except Failure as failure:
        assert failure.code in (Code.CONTENT_ENCODING_INVALID, Code.BODY_TOO_LARGE)  # noqa: PT017 - all are right


@pytest.mark.parametrize("wbits", [31, 15, -15])
def test_the_limit_is_exact(wbits: int) -> None:
    """A body of just that size is taken, one byte more is not."""
    size = LIMITS.body_bytes
    assert len(unpack(deflate(bytes(size), wbits), "deflate", LIMITS)) == size
    with pytest.raises(Failure) as caught:
        unpack(deflate(bytes(size + 1), wbits), "deflate", LIMITS)
    assert caught.value.http == 413
    assert caught.value.text == "Request body too large - Expected: 1000 bytes at most; Actual: more when unpacked"


def test_the_limit_counts_all_members() -> None:
    """Many small ones are as large as a large one."""
    member = gzip.compress(bytes(500))
    assert len(unpack(member * 2 + gzip.compress(b""), "gzip", LIMITS)) == 1000
    with pytest.raises(Failure) as caught:
        unpack(member * 2 + gzip.compress(b"1"), "gzip", LIMITS)
    assert caught.value.code is Code.BODY_TOO_LARGE


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_a_bomb_is_refused_before_it_takes_memory(encoding: str) -> None:
    """50 KB that stand for 50 MB, or 300 bytes that stand for these, cost little more than the limit."""
    bomb = gzip.compress(bytes(50_000_000))
    if encoding == "gzip, gzip":
        bomb = gzip.compress(bomb)
    limits = Limits(body_bytes=100_000)
    tracemalloc.start()
    try:
        with pytest.raises(Failure) as caught:
            unpack(bomb, encoding, limits)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code is Code.BODY_TOO_LARGE
    assert peak < 1_000_000


def test_many_members_cost_no_more_than_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a member is not copied for each: 3 MB of empty ones would take 10 s, 30 MB a quarter of an hour."""
    given_bytes = 0

    class Counting:
        """An unpacker that counts what it is given."""

        def __init__(self, wbits: int) -> None:
            self.unpacker = decompressobj(wbits)

        def decompress(self, data: bytes, max_length: int) -> bytes:
            """See ``zlib``."""
            nonlocal given_bytes
            given_bytes += len(data)
            return self.unpacker.decompress(data, max_length)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.unpacker, name)

    decompressobj = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    members = 5000
    assert unpack(gzip.compress(b"") * members, "gzip", LIMITS) == b""
    assert given_bytes <= members * compression._STEP


def test_what_comes_out_is_told_meanwhile() -> None:
    """Step by step, of all codings together; a step of the input is worth 16 MB at most."""
    body = bytes(3 * STRIDE)
    unpacker = Unpacker(deflate(gzip.compress(body), 15), "gzip, deflate", len(body))
    sizes = [0]
    while not unpacker.work():
        sizes.append(unpacker.size)
    assert len(sizes) >= 3
    assert all(STRIDE / 2 < after - before < 2 * STRIDE for before, after in itertools.pairwise(sizes))
    assert unpacker.body == body
    assert unpacker.size == len(body) + len(gzip.compress(body))


def test_large_bodies_come_back_whole() -> None:
    """Nothing is lost between the steps in which they are unpacked."""
    body = bytes(range(256)) * 1000 + b"\xff"
    stored = zlib.compressobj(level=0, wbits=31)
    packed = stored.compress(body) + stored.flush()
    assert len(packed) > 10 * compression._STEP
    assert unpack(packed + packed, "gzip", Limits()) == body * 2
