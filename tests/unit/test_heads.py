"""The heads of answers and requests."""

from __future__ import annotations

from http.client import responses

from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, ResponseStartLine, parse_response_start_line

from tornado_ovms.core.settings import CorsSettings
from tornado_ovms.http.heads import Heads, flatten

NO_CORS = CorsSettings("", "", "")


def read(head: bytes) -> tuple[ResponseStartLine, HTTPHeaders]:
    """A head as Tornado reads it."""
    assert head.endswith(b"\r\n\r\n")
    line, _, fields = head.decode("latin-1").partition("\r\n")
    return parse_response_start_line(line), HTTPHeaders.parse(fields)


def test_all_that_a_head_can_say() -> None:
    """In the order in which it is written, each name once."""
    heads = Heads(CorsSettings("https://a.example", "GET, POST", "*", credentials=True))
    line, headers = read(heads.write(200, "application/json", "id-1", 7, [("Server-Timing", "a;dur=1")], "close"))
    assert (line.code, line.reason) == (200, "OK")
    assert list(headers.get_all()) == [
        ("Access-Control-Allow-Origin", "https://a.example"),
        ("Access-Control-Allow-Methods", "GET, POST"),
        ("Access-Control-Allow-Headers", "*"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Content-Type", "application/json"),
        ("X-Request-Id", "id-1"),
        ("Server-Timing", "a;dur=1"),
        ("Content-Length", "7"),
        ("Connection", "close"),
    ]


@given(st.sampled_from([*responses, 299, 599]), st.one_of(st.none(), st.integers(0, 2**40)))
def test_a_head_is_read_back(status: int, length: int | None) -> None:
    """Whatever the status; no length where there is no body."""
    line, headers = read(Heads(NO_CORS).write(status, "text/plain", "x", length))
    assert line.code == status
    assert headers.get("Content-Length") == (None if length is None else str(length))


@given(st.text())
def test_options_cannot_add_headers(text: str) -> None:
    """Neither line ends nor other characters that HTTP cannot carry come through."""
    head = Heads(CorsSettings(text, "", "")).write(200, "text/plain", "x", 0)
    assert head.count(b"\r\n\r\n") == 1
    assert head.count(b"\n") == head.count(b"\r") == 5 + bool(text)


def test_what_is_remembered_of_one_kind_is_not_another() -> None:
    """Status and type make a kind; the rest is written anew."""
    heads = Heads(NO_CORS)
    first = heads.write(200, "text/plain", "one", 1)
    assert heads.write(404, "text/plain", "one", 1) != first
    assert b"two" in heads.write(200, "text/plain", "two", 2)
    assert heads.write(200, "text/plain", "one", 1) == first


def test_repeated_headers_are_joined() -> None:
    """As HTTPHeaders does it; names come in the usual spelling."""
    headers = HTTPHeaders()
    for name, value in (("content-type", "a"), ("X-REQUEST-ID", "1"), ("x-request-id", "2")):
        headers.add(name, value)
    assert flatten(headers) == {"Content-Type": "a", "X-Request-Id": "1,2"}
