"""Bytes sent to a server as they are, and its answers read as strictly as HTTP allows."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.functional.servers import ANSWER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.functional.servers import Server

STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [ -~]+")
HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~]*)")

BAD: Final = b"HTTP/1.1 400 Bad Request\r\n\r\n"
"""What Tornado says to what is no HTTP, without a length: it closes the connection."""


FAULT: Final = re.compile(r'Unforeseen|An answer could not be written|File ".*/tornado_ovms/')
"""What a log says of a fault of ours. That Tornado for Python 3.10 asserts what a chunk ends in, and logs it, is none."""


class Told(NamedTuple):
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes


def exchange(server: Server, *pieces: bytes) -> bytes:
    """Send pieces on one connection, and read until the server closes it, in whichever way."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_S) as connection:
        received = bytearray()
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        with suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received += chunk
        return bytes(received)


def read_answers(received: bytes) -> list[Told]:
    """All answers of a connection to requests other than HEAD, without the interim ones.

    Raises:
        AssertionError: something between them, or the end of the last, is no HTTP.
    """
    answers = []
    while received:
        if received == BAD:
            return [*answers, Told(400, {}, b"")]
        head, end, rest = received.partition(b"\r\n\r\n")
        status, headers = _read_head(head)
        assert end, head
        length = int(headers.get("content-length", "0"))
        assert length or status in (100, 204) or "content-length" in headers, head
        assert len(rest) >= length, head
        if status != 100:
            answers.append(Told(status, headers, rest[:length]))
        received = rest[length:]
    return answers


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.split(b"\r\n")
    found = STATUS_LINE.fullmatch(first)
    assert found, first
    headers: dict[str, str] = {}
    for line in lines:
        pair = HEADER.fullmatch(line)
        assert pair, line
        name = pair[1].decode().lower()
        assert name not in headers, line
        headers[name] = pair[2].decode()
    return int(found[1]), headers


def ask(server: Server, *pieces: bytes) -> list[Told]:
    """Send pieces on one connection, and read all answers until the server closes it."""
    return read_answers(exchange(server, *pieces))


def head(method: str, path: str, *headers: str, length: int | None = None) -> bytes:
    """The head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunked(body: bytes, sizes: Iterable[int]) -> bytes:
    """A body in chunks of these sizes; what is left is the last one."""
    chunks = []
    for size in sizes:
        chunks.append(body[:size])
        body = body[size:]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, body) if chunk) + b"0\r\n\r\n"
