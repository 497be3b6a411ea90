"""Requests of every route with faults in them, in pieces of any size: answers are HTTP, and no answer is a surprise.

``FUZZING`` in the environment is how many connections are made instead of 1000 of each kind; then they differ from run to run.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import models
from tests.functional.repository import Repository
from tests.functional.servers import Server
from tests.functional.wire import chunked, exchange, head, read_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypothesis.strategies import SearchStrategy

ASKED_FOR: Final = os.environ.get("FUZZING")

fuzzed: Final = settings(
    max_examples=int(ASKED_FOR or 1000),
    deadline=None,
    derandomize=ASKED_FOR is None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink) if ASKED_FOR else (Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)

ROW: Final = json.dumps({"instances": [list(range(10))]}).encode()
RIGHT: Final = {"predictions": [[float(number) for number in range(1, 11)]]}
COLUMN: Final = json.dumps({"inputs": {"b": [list(range(10))]}}).encode()
INPUT: Final = {"name": "b", "shape": [1, 10], "datatype": "FP32"}
INFER: Final = json.dumps({"id": "7", "inputs": [{**INPUT, "data": [0.5] * 10}], "outputs": [{"name": "a"}]}).encode()
BINARY: Final = json.dumps({
    "inputs": [{**INPUT, "parameters": {"binary_data_size": 40}}],
    "parameters": {"binary_data_output": True},
}).encode()

LAST: Final = head("POST", "/v1/models/dummy:predict", "Connection: close", length=len(ROW)) + ROW


def get(path: str) -> bytes:
    """A request without a body."""
    return head("GET", path, "Accept-Encoding: gzip", "User-Agent: somebody")


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    """A request with one."""
    return head("POST", path, *headers, length=len(body)) + body


REQUESTS: Final = (
    get("/v1/models/dummy"),
    get("/v1/models/dummy/versions/1"),
    get("/v1/models/dummy/labels/stable/metadata"),
    get("/v1/models/dummy/metadata"),
    get("/v1/config?verbose=1"),
    get("/v2"),
    get("/v2/health/live"),
    get("/v2/health/ready"),
    get("/v2/models/dummy"),
    get("/v2/models/dummy/versions/1/ready"),
    get("/metrics"),
    post("/v1/config/reload"),
    post("/v2/repository/index", b'{"ready": true}'),
    post("/v2/repository/models/dummy/load", b'{"parameters": {}}'),
    post("/v1/models/dummy:predict", ROW, "X-Request-Timeout-Ms: 30000", "X-Request-ID: 5"),
    post("/v1/models/any/versions/1:predict", COLUMN, "Expect: 100-continue"),
    post("/v1/models/dummy:classify", ROW),
    post("/v2/models/dummy/infer", INFER),
    post("/v2/models/any/versions/1/infer", BINARY + bytes(40), f"Inference-Header-Content-Length: {len(BINARY)}"),
    head("POST", "/v1/models/dummy:predict", "Transfer-Encoding: chunked") + chunked(ROW, [7, 5]),
)

STATUSES: Final = {200, 201, 400, 404, 405, 406, 408, 412, 413, 414, 417, 429, 501, 503, 504}

CLIENT_S_FAULTS: Final = {
    "Functionality not implemented",
    "JSON nesting depth exceeds the allowed limit",
    "Image parsing failed",
    "Inference-Header-Content-Length header is invalid and couldn't be parsed",
    "Inference-Header-Content-Length header exceeds actual payload length",
}
"""What OpenVINO Model Server answers with 500."""

LEAKS: Final = re.compile(rb"Traceback|\.py\b|site-packages|/proc/|/home/|/usr/|0x[0-9a-f]{6}")

WORDS: Final = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"%",
        b"%00",
        b"%2f",
        b"..",
        b"/",
        b"?",
    ),
    *(
        b"HTTP/1.0",
        b"HTTP/1.1",
        b"HTTP/2.0",
        b"GET",
        b"POST",
        b"PUT",
        b"OPTIONS",
        b"Connection: close\r\n",
        b"keep-alive",
    ),
    *(b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n", b"gzip"),
    *(b"Content-Encoding: gzip\r\n", b"Inference-Header-Content-Length: 9\r\n", b"X-Request-Timeout-Ms: 1\r\n"),
    *(
        b"-1",
        b"0",
        b"1",
        b"9" * 25,
        b"1e999",
        b"NaN",
        b"null",
        b"true",
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"\\",
        b"\\u0000",
    ),
    *(
        b"\xff",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
        b"[" * 150,
        b'{"b64": "AAAA"}',
        b"\x1f\x8b",
        b"binary_data_size",
        b"BYTES",
    ),
)

faults: Final = st.tuples(st.integers(0, 1000), st.integers(0, 12), st.sampled_from(WORDS) | st.binary(max_size=6))
"""Where something goes, how much of what is there goes away, and what comes instead."""


def spoil(request: bytes, wrong: list[tuple[int, int, bytes]]) -> bytes:
    """A request with these faults in it."""
    for place, gone, new in wrong:
        at = place % (len(request) + 1)
        request = request[:at] + new + request[at + gone :]
    return request


spoiled: Final = st.builds(spoil, st.sampled_from(REQUESTS), st.lists(faults, max_size=3))
sizes: Final = st.lists(st.integers(1, 300), max_size=6)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The same in pieces of these sizes, and the rest."""
    pieces = []
    for size in at:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@pytest.fixture(scope="module")
def fuzzed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves dummy f32 [1,10] and any f32 [?,?], both b -> a = b + 1; clients that send nothing more are cut off soon."""
    repository = Repository(tmp_path_factory.mktemp("fuzzing"))
    repository.put("dummy", 1, models.adder())
    repository.put("any", 1, models.adder((-1, -1)))
    repository.configure("dummy", "any")
    options = ("--metrics_enable", "--manage", "--client_timeout", "1")
    with Server("--config_path", str(repository.config), *options, log=repository.aside()) as server:
        yield server


def run(server: Server, requests: SearchStrategy[bytes], check: Callable[[bytes], None]) -> None:
    """Send such requests, each on a connection of its own, and see that the server is well afterwards."""
    files = server.files()
    server.forget_peak()
    before = server.resident_bytes()

    @fuzzed
    @given(requests, sizes)
    def send(request: bytes, at: list[int]) -> None:
        check(exchange(server, *cut(request + LAST, at)))

    send()
    assert server.request("POST", "/v1/models/dummy:predict", ROW).json == RIGHT
    assert server.files() <= files + 1
    assert server.peak_bytes() - before < 200_000_000
    assert not re.search("Unforeseen|Traceback|Uncaught", server.said())


def check_answers(received: bytes) -> None:
    """Each is HTTP, has a status that is known, and tells nothing of the machine."""
    for answer in read_answers(received):
        if answer.status == 500:
            assert json.loads(answer.body)["error"].partition(" - ")[0] in CLIENT_S_FAULTS, answer
        else:
            assert answer.status in STATUSES, answer
        assert not LEAKS.search(answer.body), answer


def test_requests_with_faults(fuzzed_server: Server) -> None:
    """And one without a fault behind them, which may have become a part of them."""
    run(fuzzed_server, spoiled, check_answers)


def test_requests_without_faults(fuzzed_server: Server) -> None:
    """Several on one connection, cut anywhere: all are answered, the last one rightly."""

    def check(received: bytes) -> None:
        answers = read_answers(received)
        assert len(answers) == 4
        assert {answer.status for answer in answers} <= {200, 404}
        assert json.loads(answers[-1].body) == RIGHT

    run(fuzzed_server, st.lists(st.sampled_from(REQUESTS), min_size=3, max_size=3).map(b"".join), check)


def test_bytes_of_any_kind(fuzzed_server: Server) -> None:
    """Words of HTTP and of JSON in any order, and bytes that are neither."""
    words = st.lists(st.sampled_from(WORDS) | st.binary(max_size=20), max_size=20).map(b"".join)
    run(fuzzed_server, words, check_answers)
