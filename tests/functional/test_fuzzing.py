"""Requests of every route with faults in them, in pieces of any size: answers are HTTP, and no answer is a surprise.

``FUZZING`` in the environment is how many connections are made instead of 500 of each kind; then they differ from run to run.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import models
from tests.functional.repository import Repository
from tests.functional.servers import Server
from tests.functional.wire import FAULT, chunked, exchange, head, read_answers
from tests.strategies import many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypothesis.strategies import SearchStrategy

ASKED_FOR: Final = os.environ.get("FUZZING")

fuzzed: Final = many(int(ASKED_FOR or 500), again=ASKED_FOR is None)

ROW: Final = json.dumps({"instances": [list(range(10))]}).encode()
RIGHT: Final = {"predictions": [[float(number) for number in range(1, 11)]]}
COLUMN: Final = json.dumps({"inputs": {"b": [list(range(10))]}}).encode()
INPUT: Final = {"name": "b", "shape": [1, 10], "datatype": "FP32"}
INFER: Final = json.dumps({"id": "7", "inputs": [{**INPUT, "data": [0.5] * 10}], "outputs": [{"name": "a"}]}).encode()
BINARY: Final = json.dumps({
    "inputs": [{**INPUT, "parameters": {"binary_data_size": 40}}],
    "parameters": {"binary_data_output": True},
}).encode()

LENGTH: Final = "Inference-Header-Content-Length"

LAST: Final = head("POST", "/v1/models/dummy:predict", "Connection: close", length=len(ROW)) + ROW


class Asked(NamedTuple):
    """A request in its parts; its length is told unless a header says how it is sent."""

    method: str
    path: str
    headers: tuple[str, ...] = ("Accept-Encoding: gzip", "User-Agent: somebody")
    body: bytes = b""

    def write(self) -> bytes:
        """The request as it is sent."""
        is_chunked = "Transfer-Encoding: chunked" in self.headers
        length = None if is_chunked or self.method == "GET" else len(self.body)
        body = chunked(self.body, [7, 5]) if is_chunked else self.body
        return head(self.method, self.path, *self.headers, length=length) + body


REQUESTS: Final = (
    Asked("GET", "/v1/models/dummy"),
    Asked("GET", "/v1/models/dummy/versions/1"),
    Asked("GET", "/v1/models/dummy/labels/stable/metadata"),
    Asked("GET", "/v1/models/dummy/metadata"),
    Asked("GET", "/v1/config?verbose=1"),
    Asked("GET", "/v2"),
    Asked("GET", "/v2/health/live"),
    Asked("GET", "/v2/health/ready"),
    Asked("GET", "/v2/models/dummy"),
    Asked("GET", "/v2/models/dummy/versions/1/ready"),
    Asked("GET", "/metrics"),
    Asked("POST", "/v1/config/reload"),
    Asked("POST", "/v2/repository/index", body=b'{"ready": true}'),
    Asked("POST", "/v2/repository/models/dummy/load", body=b'{"parameters": {}}'),
    Asked("POST", "/v1/models/dummy:predict", ("X-Request-Timeout-Ms: 30000", "X-Request-ID: 5"), ROW),
    Asked("POST", "/v1/models/any/versions/1:predict", ("Expect: 100-continue",), COLUMN),
    Asked("POST", "/v1/models/any:predict", ("Content-Encoding: gzip",), gzip.compress(COLUMN)),
    Asked("POST", "/v1/models/dummy:predict", ("Transfer-Encoding: chunked",), ROW),
    Asked("POST", "/v1/models/dummy:classify", body=ROW),
    Asked("POST", "/v2/models/dummy/infer", body=INFER),
    Asked("POST", "/v2/models/any/infer", (f"{LENGTH}: {len(BINARY)}",), BINARY + bytes(40)),
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

LEAKS: Final = re.compile(rb"Traceback|pytest-|\.py\b|site-packages|/proc/|/home/|/usr/|0x[0-9a-f]{6}")

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


def spoil_text(text: str, wrong: list[tuple[int, int, bytes]]) -> str:
    """The same for a part of a head, of characters that may stand there."""
    return re.sub(r"[\0- \x7f]", "", spoil(text.encode("latin-1"), wrong).decode("latin-1"))


def spoil_header(asked: Asked, wrong: list[tuple[int, int, bytes]]) -> Asked:
    """Faults in the value of a header that says something."""
    name, _, value = asked.headers[0].partition(": ")
    return asked._replace(headers=(f"{name}: {spoil_text(value, wrong)}", *asked.headers[1:]))


VALUES: Final = (
    *(
        None,
        True,
        -1,
        0,
        1,
        39,
        41,
        2**31,
        2**40,
        2**63,
        2**64,
        10**30,
        1e300,
        0.5,
        "",
        "b",
        "FP64",
        "BYTES",
        "é" * 300,
    ),
    *([], [[]], [None], [[1], [2, 3]], [1, 10], [0, 2**31 - 1], [2**31 - 1] * 2, [-1], [1] * 40, {}, {"b64": "AAAA"}),
    *({"binary_data_size": 40}, {"binary_data_size": 2**62}, {"b": [1]}, {"name": "a"}),
)


def exchange_value(body: bytes, at: int, value: object) -> bytes:
    """JSON, and what lies behind it, with another value in one of its places."""
    tree, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    holder = {"": tree}
    places: list[tuple[Any, Any]] = [(holder, "")]
    for container, key in places:  # those below are added while it is gone through
        inner = container[key]
        if isinstance(inner, (dict, list)):
            places += [(inner, each) for each in (inner if isinstance(inner, dict) else range(len(inner)))]
    container, key = places[at % len(places)]
    container[key] = value
    return json.dumps(holder[""]).encode() + body[end:]


requests: Final = st.sampled_from(REQUESTS)
bodies: Final = st.sampled_from([asked for asked in REQUESTS if asked.body])
wrong: Final = st.lists(faults, min_size=1, max_size=3)

spoiled: Final = st.one_of(
    st.builds(lambda asked, wrong: spoil(asked.write(), wrong), requests, wrong),
    st.builds(lambda asked, wrong: asked._replace(path="/" + spoil_text(asked.path, wrong)).write(), requests, wrong),
    st.builds(lambda asked, wrong: spoil_header(asked, wrong).write(), requests, wrong),
    st.builds(lambda asked, wrong: asked._replace(body=spoil(asked.body, wrong)).write(), bodies, wrong),
    st.builds(
        lambda asked, at, value: asked._replace(body=exchange_value(asked.body, at, value)).write(),
        st.sampled_from([asked for asked in REQUESTS if asked.body.startswith(b"{")]),
        st.integers(0, 60),
        st.sampled_from(VALUES),
    ),
)
"""Faults anywhere, in the path, in a header, in bodies that have the length that is told, and in what their JSON says."""

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
    assert not FAULT.search(server.said())


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

    run(fuzzed_server, st.lists(requests.map(Asked.write), min_size=3, max_size=3).map(b"".join), check)


def test_bytes_of_any_kind(fuzzed_server: Server) -> None:
    """Words of HTTP and of JSON in any order, and bytes that are neither."""
    words = st.lists(st.sampled_from(WORDS) | st.binary(max_size=20), max_size=20).map(b"".join)
    run(fuzzed_server, words, check_answers)
