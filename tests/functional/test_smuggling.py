"""Requests that a proxy may read differently (RFC 9112 §11.2): never answered twice, refused if they can be read in two ways."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.functional.wire import ask, chunked, head

if TYPE_CHECKING:
    from tests.functional.servers import Server

PATH = "/v1/models/dummy:predict"
BODY = json.dumps({"instances": [list(range(10))]}).encode()
RIGHT = {"predictions": [[float(number) for number in range(1, 11)]]}
SIZE = len(BODY)
CHUNKS = chunked(BODY, [7])

HIDDEN = b"POST /v1/config/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
"""What nobody has asked for, if it is in a body."""

LAST = head("GET", "/v2/health/live", "Connection: close")
"""The request after each case: answered where the connection goes on."""

CLOSED, ONE_MORE = [], [200]


def post(*headers: str, body: bytes = BODY, old: bool = False) -> bytes:
    """A prediction with these headers and nothing else that tells how long it is."""
    made = head("POST", PATH, *headers)
    return (made.replace(b"HTTP/1.1", b"HTTP/1.0") if old else made) + body


def get(line: str, *headers: str) -> bytes:
    """A request line with these headers alone."""
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1")


LENGTH = f"Content-Length: {SIZE}"
CHUNKED = "Transfer-Encoding: chunked"
LIVE = "GET /v2/health/live HTTP/1.1"
HOST = "Host: localhost"

LENGTHS = {
    "one": (post(LENGTH), 200),
    "with zeros before it": (post(f"Content-Length: 00{SIZE}"), 200),
    "twice, different": (post(LENGTH, f"Content-Length: {SIZE + len(HIDDEN)}", body=BODY + HIDDEN), 400),
    "twice, the shorter last": (post(f"Content-Length: {SIZE + len(HIDDEN)}", LENGTH, body=BODY + HIDDEN), 400),
    "twice, equal": (post(LENGTH, LENGTH), 400),
    "as a list": (post(f"Content-Length: {SIZE},{SIZE}"), 400),
    "as a list with a blank": (post(f"Content-Length: {SIZE}, {SIZE}"), 400),
    "of nothing and something": (post("Content-Length: 0", LENGTH, body=HIDDEN), 400),
    "with a plus": (post(f"Content-Length: +{SIZE}"), 400),
    "with a minus": (post("Content-Length: -1"), 400),
    "minus nothing": (post("Content-Length: -0", body=HIDDEN), 400),
    "in base 16": (post(f"Content-Length: 0x{SIZE:x}"), 400),
    "with an underscore": (post(f"Content-Length: {SIZE // 10}_{SIZE % 10}"), 400),
    "with a blank in it": (post(f"Content-Length: {SIZE // 10} {SIZE % 10}"), 400),
    "with a point": (post(f"Content-Length: {SIZE}.0"), 400),
    "as a power": (post("Content-Length: 5e1"), 400),
    "empty": (post("Content-Length:"), 400),
    "of a letter that looks like a digit": (post("Content-Length: 5\xb2"), 400),
    "of more than any body": (post("Content-Length: 18446744073709551616"), 413),
    "of many digits": (post("Content-Length: " + "9" * 5000), 413),
}

TRANSFERS = {
    "chunks": (post(CHUNKED, body=CHUNKS), 200),
    "chunks in capitals": (post("Transfer-Encoding: CHUNKED", body=CHUNKS), 200),
    "a length before": (post("Content-Length: 6", CHUNKED, body=b"0\r\n\r\n" + HIDDEN), 400),
    "a length behind": (post(CHUNKED, "Content-Length: 4", body=CHUNKS), 400),
    "a length that fits": (post(f"Content-Length: {len(CHUNKS)}", CHUNKED, body=CHUNKS), 400),
    "a length and an unknown coding": (post("Transfer-Encoding: xchunked", LENGTH), 501),
    "an unknown coding": (post("Transfer-Encoding: xchunked", body=CHUNKS), 501),
    "a coding that is none": (post("Transfer-Encoding: identity", LENGTH), 501),
    "no coding": (post("Transfer-Encoding:", LENGTH), 501),
    "quotes": (post('Transfer-Encoding: "chunked"', body=CHUNKS), 501),
    "a parameter": (post("Transfer-Encoding: chunked;q=1", body=CHUNKS), 501),
    "chunks and another behind": (post("Transfer-Encoding: chunked, identity", body=CHUNKS), 501),
    "another and chunks": (post("Transfer-Encoding: gzip, chunked", body=CHUNKS), 501),
    "chunks twice": (post("Transfer-Encoding: chunked, chunked", body=CHUNKS), 501),
    "two headers": (post(CHUNKED, CHUNKED, body=CHUNKS), 501),
    "two headers, one unknown": (post("Transfer-Encoding: cow", CHUNKED, body=CHUNKS), 501),
    "a vertical tab": (post("Transfer-Encoding: \x0bchunked", LENGTH), 400),
    "a name with a blank behind": (post("Transfer-Encoding : chunked", LENGTH), 400),
    "a name with a tab behind": (post("Transfer-Encoding\t: chunked", LENGTH), 400),
    "a name with a blank before": (post(" Transfer-Encoding: chunked", LENGTH), 400),
    "a folded value": (post("Transfer-Encoding:\r\n chunked", body=CHUNKS), 400),
    "a version without chunks": (post(CHUNKED, "Connection: keep-alive", body=CHUNKS, old=True), 400),
    "a version without chunks, and a length": (post(CHUNKED, LENGTH, body=CHUNKS, old=True), 400),
}


def chunks(body: bytes) -> bytes:
    """A prediction whose chunks are these bytes."""
    return post(CHUNKED, body=body)


ONE_CHUNK = b"%x\r\n%b\r\n" % (SIZE, BODY)

BODIES_IN_CHUNKS = {
    "one": (chunks(ONE_CHUNK + b"0\r\n\r\n"), 200),
    "zeros before a size": (chunks(b"000" + ONE_CHUNK + b"0\r\n\r\n"), 200),
    "a request in the body": (chunks(chunked(HIDDEN, [])), 412),
    "a size with a plus": (chunks(b"+" + CHUNKS), 400),
    "a size with a minus": (chunks(b"-" + CHUNKS), 400),
    "a size in base 16, as told": (chunks(b"0x" + CHUNKS), 400),
    "a size with an underscore": (chunks(b"0_" + CHUNKS), 400),
    "a size with a blank before": (chunks(b" " + CHUNKS), 400),
    "a size with a blank behind": (chunks(CHUNKS.replace(b"\r\n", b" \r\n", 1)), 400),
    "no size": (chunks(b"\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    "a size of more than any body": (chunks(b"f" * 17 + b"\r\n" + BODY), 400),
    "an extension": (chunks(CHUNKS.replace(b"\r\n", b";a=b\r\n", 1)), 400),
    "an extension with a line end": (chunks(CHUNKS.replace(b"\r\n", b";a=\nb\r\n", 1)), 400),
    "a trailer": (chunks(ONE_CHUNK + b"0\r\nX-Y: z\r\n\r\n"), 400),
    "a trailer with a length": (chunks(ONE_CHUNK + b"0\r\nContent-Length: 3\r\n\r\n"), 400),
}

LINES = {
    "line feeds alone": (post(LENGTH).replace(b"\r\n", b"\n"), 400),
    "one line feed alone": (post(f"X: a\n{LENGTH}"), 400),
    "a line feed for the empty line": (post(LENGTH).replace(b"\r\n\r\n", b"\r\n\n"), 400),
    "a carriage return alone": (post(f"X: a\rContent-Length: 0\r\n{LENGTH}"), 400),
    "two carriage returns": (post(LENGTH).replace(b"\r\n", b"\r\r\n", 1), 400),
    "a folded line": (post(f"X: a\r\n Content-Length: 0\r\n{LENGTH}"), 400),
    "a line folded by a tab": (post(f"X: a\r\n\tContent-Length: 0\r\n{LENGTH}"), 400),
    "a blank before the first header": (post(LENGTH).replace(b"Host", b" Host"), 400),
    "a name with a blank behind": (post(LENGTH.replace(":", " :")), 400),
    "a NUL in a value": (post(LENGTH, "X: a\0b"), 400),
    "a NUL in a name": (post(LENGTH, "X\0: a"), 400),
    "a NUL in a length": (post(f"Content-Length: {SIZE}\0"), 400),
    "no colon": (post(LENGTH, "X"), 400),
    "no name": (post(LENGTH, ": a"), 400),
    "a name in brackets": (post(LENGTH, "X(y): a"), 400),
    "an empty line before": (b"\r\n" + post(LENGTH), 200),
    "several empty lines before": (b"\r\n\r\n" + post(LENGTH), 400),
}

REQUEST_LINES = {
    "HTTP/0.9": (get("GET /v2/health/live"), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/3.1": (get("GET /v2/health/live HTTP/3.1", HOST), 400),
    "HTTP/1.10": (get("GET /v2/health/live HTTP/1.10", HOST), 400),
    "HTTP in small letters": (get("GET /v2/health/live http/1.1", HOST), 400),
    "two blanks": (get("GET  /v2/health/live HTTP/1.1", HOST), 400),
    "a blank in the target": (get("GET /v2/health live HTTP/1.1", HOST), 400),
    "a tab in the target": (get("GET /v2/health\tlive HTTP/1.1", HOST), 400),
    "a control character": (get("GET /v2/health/live\x01 HTTP/1.1", HOST), 400),
    "a delete": (get("GET /v2/health/live\x7f HTTP/1.1", HOST), 400),
    "a NUL": (get("GET /v2/health/live\0 HTTP/1.1", HOST), 400),
    "a line end": (get("GET /v2/health/live\nX: y HTTP/1.1", HOST), 400),
    "a method with a slash": (get("G/T /v2/health/live HTTP/1.1", HOST), 400),
    "no Host": (get(LIVE), 400),
    "two Hosts": (get(LIVE, HOST, "Host: elsewhere"), 400),
    "two equal Hosts": (get(LIVE, HOST, HOST), 400),
    "a Host with a blank": (get(LIVE, "Host: a b"), 400),
    "a Host with a path": (get(LIVE, "Host: a/b"), 400),
    "an empty Host": (get(LIVE, "Host:"), 200),
    "another method": (get("CONNECT localhost:80 HTTP/1.1", HOST), 405),
    "TRACE": (get("TRACE / HTTP/1.1", HOST), 405),
    "HTTP/1.0": (get("GET /v2/health/live HTTP/1.0"), 200),
    "HTTP/1.2, which says not that it goes on": (get("GET /v2/health/live HTTP/1.2", HOST), 200),
}
"""After each of them the connection is closed, but for an empty Host."""

GOING_ON = {"an empty Host"}


def check(server: Server, case: bytes, statuses: list[int]) -> None:
    """So are they answered, and what follows is as it should be."""
    answers = ask(server, case + LAST)
    assert [answer.status for answer in answers] == statuses
    assert server.request("POST", PATH, BODY).json == RIGHT


@pytest.mark.parametrize(("case", "status"), LENGTHS.values(), ids=LENGTHS)
def test_a_length(server: Server, case: bytes, status: int) -> None:
    """One number, or the connection ends."""
    check(server, case, [status, *(ONE_MORE if status == 200 else CLOSED)])


@pytest.mark.parametrize(("case", "status"), TRANSFERS.values(), ids=TRANSFERS)
def test_a_transfer_coding(server: Server, case: bytes, status: int) -> None:
    """``chunked`` without a length, or the connection ends."""
    check(server, case, [status, *(ONE_MORE if status == 200 else CLOSED)])


@pytest.mark.parametrize(("case", "status"), BODIES_IN_CHUNKS.values(), ids=BODIES_IN_CHUNKS)
def test_chunks(server: Server, case: bytes, status: int) -> None:
    """Hexadecimal digits, or the connection ends; a request in them is a body as any other."""
    goes_on = status == 200 or HIDDEN in case
    check(server, case, [status, *(ONE_MORE if goes_on else CLOSED)])


BROKEN_CHUNKS = {
    "a size of many zeros": b"0" * 70 + CHUNKS,
    "line feeds alone": CHUNKS.replace(b"\r\n", b"\n"),
    "a size that is too short": b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE - 1, BODY),
    "an end that is none": b"%x\r\n%bXX0\r\n\r\n" % (SIZE, BODY),
}


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_chunks_that_do_not_end(server: Server, body: bytes) -> None:
    """The connection is closed; releases of Tornado differ in whether they say 400 before."""
    answers = ask(server, chunks(body) + LAST)
    assert [answer.status for answer in answers] in ([], [400])
    assert server.request("POST", PATH, BODY).json == RIGHT


@pytest.mark.parametrize(("case", "status"), LINES.values(), ids=LINES)
def test_lines(server: Server, case: bytes, status: int) -> None:
    """CR and LF, and nothing else, ends one."""
    check(server, case, [status, *(ONE_MORE if status == 200 else CLOSED)])


@pytest.mark.parametrize(("name", "case", "status"), [(name, *case) for name, case in REQUEST_LINES.items()])
def test_a_request_line(server: Server, name: str, case: bytes, status: int) -> None:
    """HTTP/1 with one target and one Host."""
    check(server, case, [status, *(ONE_MORE if name in GOING_ON else CLOSED)])


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (LIVE, 200),
        ("OPTIONS /v2/health/live HTTP/1.1", 200),
        ("GET http://localhost/v2/health/live HTTP/1.1", 400),
        ("GET /v2/health/live%0d%0aX:%20y HTTP/1.1", 400),
        ("GET /v2/health/live\xff HTTP/1.1", 400),
        ("POST /no/such/path HTTP/1.1", 400),
        ("PUT /v1/config HTTP/1.1", 406),
        ("POST /v1/models/dummy:predict HTTP/1.1", 412),
        ("POST /v1/config/reload HTTP/1.1", 200),
    ],
)
def test_a_request_in_a_body(server: Server, line: str, status: int) -> None:
    """It is not answered, whatever becomes of the request around it."""
    check(server, get(line, HOST, f"Content-Length: {len(HIDDEN)}") + HIDDEN, [status, *ONE_MORE])


def test_a_request_in_a_body_that_is_not_read(server: Server) -> None:
    """The server closes the connection instead of looking for the next request in it."""
    case = head("POST", PATH, "Expect: something", length=len(HIDDEN)) + HIDDEN
    check(server, case, [417])
    check(server, get("TRACE / HTTP/1.1", HOST, f"Content-Length: {len(HIDDEN)}") + HIDDEN, [405])


def test_upgrades_are_not_taken(server: Server) -> None:
    """Behind HTTP/2 in clear text a request would pass a proxy unseen."""
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    check(server, get(LIVE, HOST, *upgrade), [200, 200])
    check(server, get(LIVE, HOST, "Connection: Upgrade", "Upgrade: websocket"), [200, 200])
