"""What requests ask of their answers."""

from __future__ import annotations

import pytest

from tornado_ovms.http.negotiation import choose_coding, persistence, read_timeout


def test_the_longest_timeout() -> None:
    """A client may wait for as long as it likes; timers may not."""
    assert read_timeout("9" * 19, 0) == 86400
    assert read_timeout("9" * 19, 7) == 7
    assert read_timeout(None, 7) == 7


@pytest.mark.parametrize(
    ("version", "wish", "told"),
    [
        ("HTTP/1.1", "keep-alive", ""),
        ("HTTP/1.1", "Close", "close"),
        ("HTTP/1.1", "TE, close", "close"),
        ("HTTP/1.0", "Keep-Alive", "Keep-Alive"),
        ("HTTP/1.0", "close", ""),
    ],
)
def test_what_becomes_of_the_connection(version: str, wish: str, told: str) -> None:
    """Clients of HTTP/1.0 are told that it stays open, those of 1.1 that it does not."""
    assert persistence(version, wish) == told


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("deflate, GZIP ;q=0.5", "gzip"),
        ("br, deflate", "deflate"),
        ("gzip;q=0, *", "deflate"),
        ("gzip; q=0.000, identity", ""),
        ("*", "gzip"),
    ],
)
def test_codings(accepted: str, coding: str) -> None:
    """The best that the client takes; what it gives the weight 0 is none, though a star would allow it."""
    assert choose_coding({"Accept-Encoding": accepted}) == coding
