"""Heads that Tornado would take."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders, HTTPInputError

from tornado_ovms.http.framing import LINE_BYTES, MAX_HEADERS, check_headers, check_lines

NEW, OLD = "GET / HTTP/1.1", "GET / HTTP/1.0"


def head(count: int) -> bytes:
    """A head with so many headers."""
    return b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * count + b"\r\n"


@pytest.mark.parametrize("count", [0, 1, MAX_HEADERS])
def test_lines_that_are_taken(count: int) -> None:
    """Up to the limit."""
    check_lines(head(count))


def test_lines_that_are_long_enough() -> None:
    """A path has a limit of its own, which is answered with another status."""
    check_lines(b"GET /" + b"a" * LINE_BYTES + b" HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (LINE_BYTES - 3) + b"\r\n\r\n")


@pytest.mark.parametrize(
    "refused",
    [
        head(MAX_HEADERS + 1),
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (LINE_BYTES - 2) + b"\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\nContent-Length: 3\r\n\r\n",
        b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\n",
        b"GET / HTTP/1.1\r\nHost: x\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\rContent-Length: 3\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n Content-Length: 3\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\tx\r\n\r\n",
    ],
)
def test_lines_that_are_refused(refused: bytes) -> None:
    """Too many, too long, and ends that not everybody takes for one."""
    with pytest.raises(HTTPInputError):
        check_lines(refused)


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        (NEW, "Host: x"),
        (NEW, "Host:"),
        (NEW, "Host: [::1]:8000"),
        (NEW, "Host: models.example.org:8000\r\nContent-Length: 12"),
        (NEW, "Host: x\r\nTransfer-Encoding: chunked"),
        (OLD, ""),
        (OLD, "Host: x\r\nContent-Length: 1"),
    ],
)
def test_headers_that_are_taken(line: str, headers: str) -> None:
    """HTTP/1.0 needs no Host; an empty one is one."""
    check_headers(line, HTTPHeaders.parse(headers))


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        (NEW, ""),
        ("GET / HTTP/1.2", ""),
        (NEW, "Host: x\r\nHost: x"),
        (OLD, "Host: x\r\nHost: y"),
        (NEW, "Host: x y"),
        (NEW, "Host: x/y"),
        (NEW, "Host: me@x"),
        (NEW, "Host: \xe9"),
        (NEW, "Host: x\r\nContent-Length: 3\r\nContent-Length: 3"),
        (NEW, "Host: x\r\nContent-Length: 3,3"),
        (OLD, "Transfer-Encoding: chunked"),
    ],
)
def test_headers_that_are_refused(line: str, headers: str) -> None:
    """One Host, one length, and chunks where the version knows them."""
    with pytest.raises(HTTPInputError):
        check_headers(line, HTTPHeaders.parse(headers))
