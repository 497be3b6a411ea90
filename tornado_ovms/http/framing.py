"""Heads of requests that Tornado takes and this server refuses.

Where a proxy and a server disagree on where a request ends, a client can hide a second one in it (RFC 9112 §11.2). So whatever
they might read differently is refused, and the connection closed. What each release of Tornado refuses is not looked at again;
``tests/functional/test_smuggling.py`` has all cases.

Pure; called on the event loop.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tornado.httputil import HTTPInputError, parse_request_start_line

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders

MAX_HEADERS: Final = 128
"""Reading a head of the largest size took 100 ms of the loop if its headers were as short as can be."""

LINE_BYTES: Final = 64 * 1024
"""drogon's limit of a header in the reference."""

_NO_HEADERS: Final = 2
"""Lines of a head without a header: the request line and the empty one."""

_DIGITS: Final = re.compile(r"[0-9]+")

_HOST: Final = re.compile(r"[\w.~!$&'()*+;=:%\[\]-]*", re.ASCII)
"""Without a comma, by which Tornado joins headers of the same name."""


def check_lines(head: bytes) -> None:
    """Look at the lines of a head.

    Raises:
        HTTPInputError: not all end in CR and LF, one is folded (RFC 9112 §5.2) or too long, or there are too many.
    """
    lines = head.count(b"\r\n")
    if head.count(b"\r") != lines or head.count(b"\n") != lines:
        raise HTTPInputError("a line does not end in CR and LF")
    if b"\n " in head or b"\n\t" in head:
        raise HTTPInputError("a line begins with a blank")
    if lines > _NO_HEADERS + MAX_HEADERS:
        raise HTTPInputError("too many headers")
    if len(head) > LINE_BYTES and any(len(line) > LINE_BYTES for line in head.split(b"\r\n")[1:]):
        raise HTTPInputError("a header is too long")


def check_headers(request_line: str, headers: HTTPHeaders) -> None:
    """Look at the headers that say where a request ends, and at ``Host`` (RFC 9112 §3.2, §6.1, RFC 9110 §8.6).

    Raises:
        HTTPInputError: the request line is none; ``Content-Length`` is no number, or there twice, even if equal;
            ``Transfer-Encoding`` in HTTP/1.0, which does not know it; ``Host`` missing, twice or impossible.
    """
    parse_request_start_line(request_line)
    is_old = request_line.endswith("HTTP/1.0")
    if not _DIGITS.fullmatch(headers.get("Content-Length", "0")):
        raise HTTPInputError("Expected: one Content-Length, of digits")
    if is_old and "Transfer-Encoding" in headers:
        raise HTTPInputError("Transfer-Encoding in HTTP/1.0")
    host = headers.get("Host", "" if is_old else None)
    if host is None or not _HOST.fullmatch(host):
        raise HTTPInputError("Expected: one Host")
