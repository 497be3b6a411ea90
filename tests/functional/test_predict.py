"""Predictions over real connections: what HTTP allows a client to do."""

from __future__ import annotations

import gzip
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.functional.wire import exchange

if TYPE_CHECKING:
    from tests.functional.servers import Server

BODY = json.dumps({"instances": [list(range(10))]}).encode()
RIGHT = {"predictions": [[float(number) for number in range(1, 11)]]}
PATH = "/v1/models/dummy:predict"


def head(length: int | None = None, *more: str, path: str = PATH) -> bytes:
    """A request's head."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_prediction(server: Server) -> None:
    """The answer, its type and its length."""
    answer = server.request("POST", PATH, BODY)
    assert (answer.status, answer.json) == (200, RIGHT)
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert not {"Server", "Date", "Etag"} & set(answer.headers)


def test_a_chunked_body(server: Server) -> None:
    """Chunks may be cut anywhere."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(BODY[i : i + 7]), BODY[i : i + 7]) for i in range(0, len(BODY), 7))
    received = exchange(server, head(None, "Transfer-Encoding: chunked", "Connection: close"), chunks, b"0\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2]) == RIGHT


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """Three requests in one packet, three answers."""
    other = json.dumps({"instances": [[5] * 10]}).encode()
    received = exchange(
        server, head(len(BODY)) + BODY + head(len(other)) + other + head(len(BODY), "Connection: close") + BODY
    )
    bodies = [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert [json.loads(body)["predictions"][0][0] for body in bodies] == [1.0, 6.0, 1.0]


def test_expect_100_continue(server: Server) -> None:
    """The server asks for the body, then answers."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head(len(BODY), "Expect: 100-continue", "Connection: close"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", [PATH, "/v1/models/wide:predict"])
def test_a_compressed_body(server: Server, path: str) -> None:
    """A body in gzip is unpacked, small or large."""
    shape = (1, 10) if path == PATH else (1, 3, 224, 224)
    body = gzip.compress(json.dumps({"instances": np.zeros(shape).tolist()}).encode())
    answer = server.request("POST", path, body, {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"})
    assert answer.status == 200
    text = gzip.decompress(answer.body) if answer.headers.get("Content-Encoding") == "gzip" else answer.body
    np.testing.assert_array_equal(np.array(json.loads(text)["predictions"]), np.ones(shape))


def test_a_compressed_body_that_is_broken(server: Server) -> None:
    """Cut off; what is not gzip at all is read as it is, as in the reference."""
    for body, status in ((gzip.compress(BODY)[:-5], 400), (b"no gzip", 412), (BODY, 200)):
        answer = server.request("POST", PATH, body, {"Content-Encoding": "gzip"})
        assert answer.status == status


def test_a_large_answer_reads_back_the_same(server: Server) -> None:
    """150,528 floats there and back, bit for bit."""
    array = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
    answer = server.post("/v1/models/wide:predict", {"inputs": array.tolist()})
    np.testing.assert_array_equal(np.array(answer.json["outputs"], np.float32), array + 1)


def test_a_body_that_says_to_be_too_large_is_refused_at_once(server: Server) -> None:
    """Before it is sent, with an answer, and the connection is closed."""
    received = exchange(server, head((1 << 30) + 1))
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in received.lower()
    assert b"Request body too large" in received


def test_an_unknown_method(server: Server) -> None:
    """405 without a body, and the connection is closed."""
    received = exchange(server, b"TRACE /v1/config HTTP/1.1\r\nHost: x\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 405 ")
    assert received.endswith(b"\r\n\r\n")


def test_clients_that_hang_up_leave_nothing_behind(server: Server) -> None:
    """1,000 clients that go away in the middle of a request: nothing stays in flight, and the server goes on."""
    slow = json.dumps({"inputs": np.zeros((1, 1024, 1024)).tolist()}).encode()

    def hang_up(number: int) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            if number % 50 == 0:  # while it is being decoded or computed
                connection.sendall(head(len(slow), path="/v1/models/heavy:predict") + slow)
            elif number % 2:  # before the body is there
                connection.sendall(head(len(BODY)) + BODY[: number % len(BODY)])
            else:  # without waiting for the answer
                connection.sendall(head(len(BODY)) + BODY)

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(hang_up, range(1000)))
    assert server.request("POST", PATH, BODY).json == RIGHT
    body = json.dumps({"inputs": np.zeros((1, 1024, 1024)).tolist()}).encode()
    assert server.request("POST", "/v1/models/heavy:predict", body).status == 200


def test_many_clients_at_once(server: Server) -> None:
    """Each of 32 clients gets its own answers."""

    def ask(client: int) -> None:
        for number in range(20):
            value = client * 1000 + number
            answer = server.post(PATH, {"instances": [[value] * 10]})
            assert answer.json == {"predictions": [[value + 1.0] * 10]}

    with ThreadPoolExecutor(32) as clients:
        list(clients.map(ask, range(32)))
