"""The HTTP edge on a connection that is none: what is written, when, and what is not."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tornado import httputil

from tests.fakes import InlineExecutor
from tornado_ovms.core import metric_families as families
from tornado_ovms.core.settings import CorsSettings, LoadLimits
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.http.app import Edge
from tornado_ovms.http.exchange import Exchange
from tornado_ovms.http.listener import LARGE_READ, SMALL_READ
from tornado_ovms.http.negotiation import LINE_BYTES
from tornado_ovms.http.traffic import Traffic
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.admission import Admission
from tornado_ovms.serving.dataplane import ON_LOOP_BYTES
from tornado_ovms.serving.observation import Timing
from tornado_ovms.serving.planes import Planes
from tornado_ovms.serving.registry import Registry
from tornado_ovms.serving.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeConnection:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers = httputil.HTTPHeaders()
        self.body = b""
        self.finished = self.closed = self._disconnect_on_finish = False
        self.stream = SimpleNamespace(read_chunk_size=0)
        self.on_close: Callable[[], None] | None = None

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """See Tornado."""
        self.on_close = callback

    def write(self, chunk: bytes) -> Any:
        """See Tornado; the head comes first, in one piece."""
        if not self.status:
            head, _, chunk = chunk.partition(b"\r\n\r\n")
            line, _, fields = head.decode("latin-1").partition("\r\n")
            self.status, self.headers = int(line.split()[1]), httputil.HTTPHeaders.parse(fields)
        self.body += chunk
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def finish(self) -> None:
        """See Tornado."""
        self.finished = True
        self.closed = self.closed or self._disconnect_on_finish

    def close(self) -> None:
        """See Tornado."""
        self.closed = True


class FakePlane:
    """Answers what it was given."""

    def __init__(self, reply: object) -> None:
        self.reply = reply
        self.bodies: list[bytes | memoryview] = []

    def predict(self, _name: str, _version: int | None, body: bytes) -> Any:
        """See ``DataPlane``."""
        self.bodies.append(body)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply() if callable(self.reply) else self.reply

    def infer(self, name: str, version: int | None, body: bytes | memoryview, _header: str | None) -> Any:
        """See ``DataPlane``."""
        return self.predict(name, version, body)  # type: ignore[arg-type]


DEFAULT_CORS = CorsSettings()
NO_LIMITS = LoadLimits(bytes=0)


def play(  # noqa: PLR0913 - each test says a few of them
    reply: object,
    *,
    method: str = "POST",
    path: str = "/v1/models/m:predict",
    headers: dict[str, str] | None = None,
    chunks: tuple[bytes, ...] = (b"{}",),
    cors: CorsSettings = DEFAULT_CORS,
    limit: int = 1000,
    script: Callable[[Exchange], None] = Exchange.finish,
    traffic: Traffic | None = None,
    tells_timing: bool = False,
    load: LoadLimits = NO_LIMITS,
    others: int = 0,
    is_draining: bool = False,
    turns: int = 0,
) -> tuple[FakeConnection, FakePlane]:
    """One request beside others of so many bytes; the script comes some turns of the loop after its head. What came of it."""

    async def main() -> tuple[FakeConnection, FakePlane]:
        plane, connection, metrics = FakePlane(reply), FakeConnection(), Metrics()
        admission = Admission(load, Registry(metrics))
        admission.enter("other", None, others)
        edge = Edge(
            Planes(plane, None),  # type: ignore[arg-type]
            cors,
            limit,
            InlineExecutor(),
            traffic or Traffic(metrics),
            admission,
            tells_timing=tells_timing,
        )
        edge.is_draining = is_draining
        exchange = edge.start_request(None, connection)  # type: ignore[arg-type]
        exchange.headers_received(
            httputil.RequestStartLine(method, path, "HTTP/1.1"), httputil.HTTPHeaders(headers or {})
        )
        for chunk in chunks:
            exchange.data_received(chunk)
        for _ in range(turns):
            await asyncio.sleep(0)
        script(exchange)
        if exchange.task is not None:
            await asyncio.wait((exchange.task,))
        assert not edge.open
        return connection, plane

    return asyncio.run(main())


async def later(reply: Reply | Exception) -> Reply:
    """An answer that takes a turn of the loop."""
    await asyncio.sleep(0)
    if isinstance(reply, Exception):
        raise reply
    return reply


@pytest.mark.parametrize(("length", "size"), [("37", SMALL_READ), ("99999", SMALL_READ), ("100000", LARGE_READ)])
def test_large_bodies_are_read_in_large_pieces(length: str, size: int) -> None:
    """From the head on, and until the next head of the connection."""
    connection, _ = play(Reply(200, []), headers={"Content-Length": length}, limit=10**6)
    assert connection.stream.read_chunk_size == size


def test_an_answer_at_once_needs_no_task() -> None:
    """Body in pieces, headers, length."""
    connection, plane = play(Reply(200, [b'{"a":', b"1}"]), chunks=(b"{", b"}"))
    assert (connection.status, connection.body, connection.finished) == (200, b'{"a":1}', True)
    assert connection.headers["Content-Length"] == "7"
    assert connection.headers["Content-Type"] == "application/json; charset=utf-8"
    assert plane.bodies == [b"{}"]


def test_an_answer_that_takes_time() -> None:
    """The same, after a while."""
    connection, _ = play(lambda: later(Reply(201, [b"{}"])))
    assert (connection.status, connection.body, connection.finished) == (201, b"{}", True)


def test_a_large_answer_is_sent_in_pieces() -> None:
    """Without joining them."""
    piece = b"x" * ON_LOOP_BYTES
    connection, _ = play(Reply(200, [piece, piece]))
    assert connection.body == piece * 2
    assert connection.headers["Content-Length"] == str(2 * ON_LOOP_BYTES)


@pytest.mark.parametrize("delayed", [True, False])
def test_failures_and_surprises(delayed: bool) -> None:  # noqa: FBT001
    """A failure shows its text; what nobody foresaw is logged, and not shown."""

    def wrapped(error: Exception) -> object:
        return (lambda: later(error)) if delayed else error

    connection, _ = play(wrapped(Failure(Code.SHAPE, "Expected: (1)")))
    assert (connection.status, connection.body) == (400, b'{"error":"Invalid input shape - Expected: (1)"}')
    connection, _ = play(wrapped(ZeroDivisionError("secret")))
    assert (connection.status, connection.body) == (500, b'{"error":"Internal server error"}')


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [
        ("gzip, deflate", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0.5", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0", None),
        ("br", None),
        ("", None),
    ],
)
def test_answers_are_compressed_for_those_who_take_it(accepts: str, packed: str | None) -> None:
    """From 1 KiB on."""
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[packed]
    body = b"0" * 2000
    for reply in (Reply(200, [body]), lambda: later(Reply(200, [body]))):
        connection, _ = play(reply, headers={"Accept-Encoding": accepts})
        assert connection.headers.get("Content-Encoding") == packed
        assert unpack(connection.body) == body
    for reply in (Reply(200, [b"small"]), Reply(200, [body], is_packable=False)):
        connection, _ = play(reply, headers={"Accept-Encoding": accepts})
        assert connection.body == b"".join(reply.body)


def test_head_has_headers_only() -> None:
    """With the length that GET would have."""
    connection, _ = play(None, method="HEAD", path="/v1/models/m/", chunks=())
    assert (connection.status, connection.body) == (400, b"")
    assert int(connection.headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("OPTIONS", "/no/such/route", 200),
        ("OPTIONS", "/v1/config", 200),
        ("OPTIONS", "/v1/../config", 400),
        ("PUT", "/v1/config", 406),
        ("TRACE", "/v1/config", 405),
        ("GET", "/nothing", 400),
    ],
)
def test_what_needs_no_endpoint(method: str, path: str, status: int) -> None:
    """Methods and paths that are answered by the edge itself; CORS headers are everywhere."""
    connection, _ = play(None, method=method, path=path, chunks=())
    assert connection.status == status
    assert connection.headers["Access-Control-Allow-Origin"] == "*"
    assert connection.closed is (status == 405)


def test_cors_headers_are_the_options_texts() -> None:
    """As they stand; an empty text sends none."""
    cors = CorsSettings("https://a.example", "GET,POST", "", credentials=True)
    connection, _ = play(Reply(200, []), cors=cors)
    sent = {name: value for name, value in connection.headers.items() if name.startswith("Access")}
    assert sent == {
        "Access-Control-Allow-Origin": "https://a.example",
        "Access-Control-Allow-Methods": "GET,POST",
        "Access-Control-Allow-Credentials": "true",
    }


@pytest.mark.parametrize("headers", [{"Content-Length": "1001"}, {}])
def test_too_large_a_body(headers: dict[str, str]) -> None:
    """Refused by its length before it comes, or when it has grown too large; once."""
    connection, plane = play(Reply(200, []), headers=headers, chunks=(b"x" * 600, b"x" * 600, b"x"))
    assert connection.status == 413
    assert connection.headers["Connection"] == "close"
    assert connection.body.count(b"Request body too large") == 1
    assert plane.bodies == []


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"/{'a' * (LINE_BYTES - 1)}", {}, 400),
        (f"/{'a' * LINE_BYTES}", {}, 414),
        (f"/v1/models/m:predict?{'a' * LINE_BYTES}", {}, 414),
        ("/v1/models/m:predict", {"Transfer-Encoding": "Chunked"}, 200),
        ("/v1/models/m:predict", {"Transfer-Encoding": "gzip"}, 501),
        ("/v1/models/m:predict", {"Expect": "100-Continue"}, 200),
        ("/v1/models/m:predict", {"Expect": "something"}, 417),
    ],
)
def test_what_http_itself_refuses(path: str, headers: dict[str, str], status: int) -> None:
    """Without a body, and the connection is closed, as in the reference."""
    connection, plane = play(Reply(200, []), path=path, headers=headers)
    assert connection.status == status
    if status > 400:
        assert (connection.body, connection.closed, plane.bodies) == (b"", True, [])


def test_a_body_that_nobody_reads_is_not_kept() -> None:
    """Its route does not exist."""

    def script(exchange: Exchange) -> None:
        assert exchange._chunks == []
        exchange.finish()

    connection, _ = play(None, path="/nothing", chunks=(b"x" * 500,), script=script)
    assert connection.status == 400


def test_a_client_that_goes_away_ends_the_wait() -> None:
    """But what was begun is begun: an awaitable that holds a lease is always awaited."""
    seen: list[str] = []

    async def endless() -> Reply:
        seen.append("begun")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("ended")
        raise AssertionError

    def leave_at_once(exchange: Exchange) -> None:
        exchange.finish()
        exchange.on_connection_close()
        asyncio.get_running_loop().call_soon(exchange.on_connection_close)

    connection, _ = play(endless, script=leave_at_once)
    assert connection.on_close is not None, "Tornado has been asked to tell"
    assert seen == ["begun", "ended"]
    assert not connection.finished


@pytest.mark.parametrize("chunks", [(b"{}" + bytes(8),), (b"{", b"}", bytes(3), bytes(5))])
@pytest.mark.parametrize("length", ["0", "2", "16", "17", "1000"])
def test_binary_data_can_be_used_where_it_lies(chunks: tuple[bytes, ...], length: str) -> None:
    """What follows the JSON begins where numbers of any size may, and may be written; of every body that says it has some."""
    _, plane = play(
        Reply(200, []), path="/v2/models/m/infer", headers={"Inference-Header-Content-Length": length}, chunks=chunks
    )
    [body] = plane.bodies
    assert isinstance(body, memoryview)
    assert not body.readonly
    assert bytes(body) == b"{}" + bytes(8)
    rest = np.frombuffer(body, np.uint8)[int(length) :]
    assert not rest.size or rest.ctypes.data % 16 == 0


@pytest.mark.parametrize("length", [None, "", "x", "-1", "9" * 30, "²"])
def test_a_length_that_is_none_changes_nothing(length: str | None) -> None:
    """Those who read the body refuse it."""
    headers = {} if length is None else {"Inference-Header-Content-Length": length}
    _, plane = play(Reply(200, []), path="/v2/models/m/infer", headers=headers, chunks=(b"{", b"}"))
    assert [bytes(body) for body in plane.bodies] == [b"{}"]


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("accepts", ["", "gzip", "deflate"])
def test_an_answer_may_have_headers_of_its_own(is_large: bool, accepts: str) -> None:  # noqa: FBT001
    """They come with it, packed or not, and views of memory are sent as they are."""
    view = memoryview(bytearray(b"x" * (ON_LOOP_BYTES if is_large else 2000)))
    reply = Reply(200, [b"{}", view], headers=(("Inference-Header-Content-Length", "2"),))
    connection, _ = play(reply, path="/v2/models/m/infer", headers={"Accept-Encoding": accepts})
    assert connection.headers["Inference-Header-Content-Length"] == "2"
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress, "": bytes}[accepts]
    assert unpack(connection.body) == b"{}" + view


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/m/load"),
        ("POST", "/v2/repository/models/m/unload"),
    ],
)
def test_the_repository_is_no_place_unless_it_may_be_managed(method: str, path: str) -> None:
    """As in the reference, which has none of it."""
    connection, _ = play(None, method=method, path=path)
    assert (connection.status, connection.body) == (400, b'{"error":"Invalid request URL"}')


TIMING = Timing(0.0001, 0.00025, 0.001, 0.0000004)


@pytest.mark.parametrize("delayed", [True, False])
@pytest.mark.parametrize("body", [b"{}", b"x" * (ON_LOOP_BYTES + 1)], ids=["small", "large"])
def test_an_answer_tells_how_long_it_took(body: bytes, delayed: bool) -> None:  # noqa: FBT001
    """If that is wanted, and if it is one that was timed; in milliseconds, as browsers read it."""

    def header(timing: Timing | None, *, tells_timing: bool) -> str | None:
        reply = Reply(200, [body], timing=timing)
        connection, _ = play((lambda: later(reply)) if delayed else reply, tells_timing=tells_timing)
        found: str | None = connection.headers.get("Server-Timing")
        return found

    assert header(TIMING, tells_timing=True) == "decode;dur=0.100, wait;dur=0.250, infer;dur=1.000, encode;dur=0.000"
    assert header(None, tells_timing=True) is None
    assert header(TIMING, tells_timing=False) is None


EXCHANGES: dict[str, dict[str, Any]] = {
    "at once": {"reply": Reply(200, [b"{}"])},
    "later": {"reply": lambda: later(Reply(200, [b"{}"]))},
    "large": {"reply": Reply(200, [b"x" * ON_LOOP_BYTES, b"x"])},
    "packed": {"reply": Reply(200, [b"x" * 2000]), "headers": {"Accept-Encoding": "gzip"}},
    "failure": {"reply": Failure(Code.SHAPE)},
    "surprise": {"reply": lambda: later(ZeroDivisionError())},
    "too large": {"reply": Reply(200, []), "headers": {"Content-Length": "1001"}},
    "grown too large": {"reply": Reply(200, []), "chunks": (b"x" * 600, b"x" * 600)},
    "no route": {"reply": None, "path": "/nothing"},
    "wrong method": {"reply": None, "method": "PUT"},
    "unknown method": {"reply": None, "method": "TRACE"},
    "preflight": {"reply": None, "method": "OPTIONS"},
    "head": {"reply": None, "method": "HEAD", "path": "/v1/models/m/", "chunks": ()},
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_answer_has_the_id_of_its_request(name: str) -> None:
    """The client's, or one that was made."""
    exchange = dict(EXCHANGES[name])
    headers = exchange.pop("headers", {})
    connection, _ = play(**exchange, headers={**headers, "X-Request-ID": "abc"})
    assert connection.headers.get_list("X-Request-ID") == ["abc"]
    connection, _ = play(**exchange, headers={**headers, "X-Request-ID": "a b"})
    [made] = connection.headers.get_list("X-Request-ID")
    assert made.endswith("-1")


class Listener(Traffic):
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__(Metrics())
        self.heard: list[Any] = []
        self.refusals: list[Code] = []

    def answered(self, answer: Any) -> None:
        """See ``Traffic``."""
        super().answered(answer)
        self.heard.append(answer)

    def refused(self, code: Code) -> None:
        """See ``Traffic``."""
        super().refused(code)
        self.refusals.append(code)


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_answer_is_told_of_once(name: str) -> None:
    """With its route and never with its query, and with the bytes that came and went."""
    exchange = dict(EXCHANGES[name])
    path = exchange.pop("path", "/v1/models/m:predict")
    listener = Listener()
    connection, _ = play(**exchange, path=f"{path}?key=secret", traffic=listener)
    [answer] = listener.heard
    assert (answer.status, answer.path, answer.sent) == (connection.status, path, len(connection.body))
    assert "secret" not in str(answer)
    is_found = path == "/v1/models/m:predict" and exchange.get("method", "POST") == "POST"
    assert answer.route == ("/v1/models/NAME:predict" if is_found else "other")
    chunks = exchange.get("chunks", (b"{}",))
    assert answer.received == (0 if name == "too large" else sum(map(len, chunks)))
    assert 0 <= answer.seconds < 60


@pytest.mark.parametrize(
    ("name", "code"), [("failure", Code.SHAPE), ("too large", Code.BODY_TOO_LARGE), ("later", None)]
)
def test_refusals_are_told_of(name: str, code: Code | None) -> None:
    """Those that met a limit are counted."""
    listener = Listener()
    play(**EXCHANGES[name], traffic=listener)
    assert listener.refusals == ([] if code is None else [code])


def test_an_answer_that_nobody_got_is_not_told_of() -> None:
    """The client went away before it was there."""
    listener = Listener()

    def leave(exchange: Exchange) -> None:
        exchange.finish()
        asyncio.get_running_loop().call_soon(exchange.on_connection_close)

    play(lambda: asyncio.sleep(3600), script=leave, traffic=listener)
    assert listener.heard == []


def test_a_surprise_is_logged_with_the_id(caplog: pytest.LogCaptureFixture) -> None:
    """The client can name it, and the operator finds the traceback."""
    play(ZeroDivisionError("secret"), headers={"X-Request-ID": "abc"})
    [record] = caplog.records
    assert (record.getMessage(), record.exc_info is not None) == (
        "Unforeseen error while answering request abc",
        True,
    )


@pytest.mark.parametrize(
    ("length", "chunks", "told"),
    [
        ("7", (b"{}     ",), None),  # read, since it is on its way, and not looked at
        ("700000", (), "close"),  # answered before it comes
    ],
)
def test_what_is_refused_for_load(length: str, chunks: tuple[bytes, ...], told: str | None) -> None:
    """By its head, with the advice to come again; small ones keep their connection."""
    traffic = Traffic(metrics := Metrics())
    connection, plane = play(
        Reply(200, []), headers={"Content-Length": length}, chunks=chunks, limit=10**6, load=LoadLimits(bytes=10**6),
        others=10**6, traffic=traffic, script=Exchange.finish if chunks else lambda _: None,
    )  # fmt: skip
    assert (connection.status, connection.headers.get("Connection"), plane.bodies) == (429, told, [])
    assert connection.headers["Retry-After"] == "1"
    assert metrics.counter(families.REFUSED, reason="bytes").value == 1


LATE: dict[str, tuple[Callable[[Exchange], None], bool]] = {
    "nothing comes": (lambda _: None, False),
    "it comes": (Exchange.finish, True),
    "more than enough comes": (lambda exchange: exchange.data_received(b"x" * 100), True),
    "enough comes": (lambda exchange: exchange.data_received(b"x" * 90), False),
}


@pytest.mark.parametrize("name", LATE)
def test_a_refused_body_may_still_come(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client reads the answer only when it has sent all; but there is a limit, and nothing of it is kept."""
    monkeypatch.setattr("tornado_ovms.http.exchange.LINGER_BYTES", 95)
    script, is_closed = LATE[name]
    connection, plane = play(Reply(200, []), headers={"Content-Length": "2000"}, chunks=(), script=script)
    assert (connection.status, connection.headers["Connection"]) == (413, "close")
    assert (connection.closed, plane.bodies) == (is_closed, [])


def test_a_refused_body_does_not_come_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed when it has had its time."""
    monkeypatch.setattr("tornado_ovms.http.exchange.LINGER_S", 0)
    headers = {"Content-Length": "2000"}
    connection, _ = play(Reply(200, []), headers=headers, chunks=(), script=lambda _: None, turns=2)
    assert (connection.finished, connection.closed) == (False, True)


def test_a_refused_body_that_waits_for_a_word_never_comes() -> None:
    """Its client has been answered before it was told to go on."""
    headers = {"Content-Length": "2000", "Expect": "100-continue"}
    connection, _ = play(Reply(200, []), headers=headers, chunks=(), script=lambda _: None)
    assert (connection.status, connection.closed) == (413, True)


@pytest.mark.parametrize("reply", [Reply(200, []), lambda: later(Reply(200, [b"x" * ON_LOOP_BYTES, b"x"]))])
def test_the_last_answer_of_a_connection_closes_it(reply: object) -> None:
    """Whether the client wants that, or the server is about to end."""
    for headers in ({"Connection": "close, TE"}, {}):
        connection, _ = play(reply, headers=headers, is_draining=not headers)
        assert (connection.headers["Connection"], connection.finished, connection.closed) == ("close", True, True)
    connection, _ = play(reply)
    assert ("Connection" in connection.headers, connection.finished, connection.closed) == (False, True, False)


def test_long_paths_are_not_remembered() -> None:
    """Nor long methods: both are the client's."""
    for method, path in (("GET", f"/{'a' * 300}"), ("A" * 300, "/")):
        edge = Edge(None, DEFAULT_CORS, 1, InlineExecutor(), Traffic(Metrics()), None)  # type: ignore[arg-type]
        edge.find(method, path)
        assert edge._find_known.cache_info().currsize == 0
    assert edge.find("GET", "/v1/config") is edge.find("GET", "/v1/config")


def test_a_body_that_was_not_announced_is_counted_as_it_comes() -> None:
    """Chunked bodies are refused where they exceed what is left."""
    headers = {"Transfer-Encoding": "chunked"}
    for others, status in ((0, 413), (1, 429)):
        chunks = (b"123", b"45", b"6" if not others else b"")
        connection, _ = play(Reply(200, []), headers=headers, chunks=chunks, load=LoadLimits(bytes=5), others=others)
        assert (connection.status, connection.closed) == (status, True)
    connection, _ = play(Reply(200, []), headers=headers, chunks=(b"123", b"45"), load=LoadLimits(bytes=5))
    assert connection.status == 200


@pytest.mark.parametrize("path", ["/v1/models/m:predict", "/v2/models/m/infer"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, identity", "identity", "br"])
def test_a_packed_body_is_unpacked(path: str, encoding: str) -> None:
    """What is no known coding is passed on as it is, as in the reference."""
    pack = {"g": gzip.compress, "d": zlib.compress}.get(encoding[0], bytes)
    packed = pack(b'{"a": 1}')
    chunks = packed[:5], packed[5:]
    connection, plane = play(Reply(200, []), path=path, headers={"Content-Encoding": encoding}, chunks=chunks)
    assert (connection.status, plane.bodies) == (200, [b'{"a": 1}'])


@pytest.mark.parametrize(
    ("body", "load", "status"),
    [
        (gzip.compress(bytes(1000)), NO_LIMITS, 200),
        (gzip.compress(bytes(1001)), NO_LIMITS, 413),
        (gzip.compress(bytes(1000)), LoadLimits(bytes=1000), 413),
        (gzip.compress(bytes(1000)), LoadLimits(bytes=1100), 429),
        (gzip.compress(bytes(800)), LoadLimits(bytes=1000), 200),
        (gzip.compress(b"{}")[:-1], NO_LIMITS, 400),
    ],
)
def test_what_comes_out_of_a_body_is_counted(body: bytes, load: LoadLimits, status: int) -> None:
    """Like what is received, and given back with it; a refused one reaches no model."""
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}
    connection, plane = play(Reply(200, []), headers=headers, chunks=(body,), load=load, others=100)
    assert connection.status == status
    assert bool(plane.bodies) == (status == 200)


def test_other_requests_are_not_refused_for_load() -> None:
    """Health and metrics are asked for just then."""
    connection, _ = play(Reply(200, []), path="/v1/models/m:classify", load=LoadLimits(bytes=1))
    assert connection.status == 404


async def never() -> Reply:
    """An answer that does not come."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


@pytest.mark.parametrize(
    ("header", "load"),
    [("1", NO_LIMITS), ("1", LoadLimits(request_timeout_s=1000)), ("1000000", LoadLimits(request_timeout_s=0.001))],  # type: ignore[arg-type]
)
def test_an_answer_that_does_not_come_in_time(header: str, load: LoadLimits) -> None:
    """The shorter of both times counts, and what was begun is given up."""
    connection, _ = play(never, headers={"X-Request-Timeout-Ms": header}, load=load)
    assert connection.status == 504
    assert connection.body == b'{"error":"Inference did not finish in time - Expected: 0.001 s at most"}'
    assert not connection.closed


def test_a_body_that_does_not_come_in_time() -> None:
    """Nothing is computed for it."""

    async def main() -> None:
        metrics = Metrics()
        plane, connection = FakePlane(Reply(200, [])), FakeConnection()
        planes = Planes(plane, None)  # type: ignore[arg-type]
        admission = Admission(NO_LIMITS, Registry(metrics))
        edge = Edge(planes, DEFAULT_CORS, 1000, InlineExecutor(), Traffic(metrics), admission)
        exchange = edge.start_request(None, connection)  # type: ignore[arg-type]
        headers = {"X-Request-Timeout-Ms": "1", "Content-Length": "5"}
        exchange.headers_received(
            httputil.RequestStartLine("POST", "/v1/models/m:predict", "HTTP/1.1"), httputil.HTTPHeaders(headers)
        )
        await edge.idle()
        assert (connection.status, connection.headers["Connection"], plane.bodies) == (504, "close", [])

    asyncio.run(main())


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "soon", "", "9" * 30])
def test_a_timeout_that_is_none(text: str) -> None:
    """It is refused, and its connection goes on."""
    headers = {"X-Request-Timeout-Ms": text, "Content-Length": "2"}
    connection, plane = play(Reply(200, []), headers=headers)
    assert (connection.status, connection.closed, plane.bodies) == (400, False, [])
    assert b"Expected: a whole number of milliseconds above 0; Actual: " in connection.body
